"""A cross-encoder is MiniLM with low-rank updates and one unit on its mean state; foreign weights are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from memlong.errors import RetrieverError
from memlong.retriever import make_retriever
from memlong.retriever.cross_encoder import BUNDLED, WEIGHTS, CrossEncoder
from memlong.retriever.minilm import minilm_folder

QUESTION = "who kept the ledger of the harbour"
TEXTS = ["the harbour master kept a ledger", "rain", "a lamp was lost at sea in the third year"]
QUERY = "encoder.layer.0.attention.self.query"
NORM = "encoder.layer.1.output.LayerNorm.bias"


def updates(rank: int = 2) -> dict[str, torch.Tensor]:
    """Return updates of one linear layer and one norm of the tiny BERT, and the unit."""
    made = torch.Generator().manual_seed(5)
    shapes = {f"{QUERY}.lora_A": (rank, 32), f"{QUERY}.lora_B": (32, rank), NORM: (32,), "score.weight": (1, 32)}
    return {name: torch.randn(shape, generator=made) for name, shape in shapes.items()} | {
        "score.bias": torch.tensor([0.25])
    }


@pytest.fixture
def written(tmp_path):
    """Return ``written(**changes)``: a folder with the updates, some changed; None leaves one out."""

    def write(**changes: torch.Tensor | None):
        weights = updates() | {name.replace("__", "."): value for name, value in changes.items()}
        save_file({name: value for name, value in weights.items() if value is not None}, tmp_path / WEIGHTS)
        return tmp_path

    return write


def by_hand(bert_folder, question, text):
    """Return the logit of one pair, run alone."""
    model = AutoModel.from_pretrained(bert_folder, add_pooling_layer=False).eval()
    given = updates()
    with torch.no_grad():
        model.get_submodule(QUERY).weight += given[f"{QUERY}.lora_B"] @ given[f"{QUERY}.lora_A"]
        model.get_parameter(NORM).copy_(given[NORM])
        pair = AutoTokenizer.from_pretrained(bert_folder)(question, text, truncation=False, return_tensors="pt")
        mean_E = model(**pair).last_hidden_state[0].mean(dim=0)
        return float(given["score.weight"][0] @ mean_E + given["score.bias"][0])


def test_it_is_the_updated_model_and_one_unit(bert, bert_folder, written):
    found = CrossEncoder(*bert, written(), max_tokens=64).logits(QUESTION, TEXTS)
    np.testing.assert_allclose(found, [by_hand(bert_folder, QUESTION, text) for text in TEXTS], atol=1e-4)
    assert np.isfinite(CrossEncoder(*bert, written(), max_tokens=64).logits("", [""])).all()
    assert np.ptp(found) > 0.01


def test_many_texts_are_read_as_each_alone(bert, written, monkeypatch):
    reader, texts = CrossEncoder(*bert, written(), max_tokens=64), TEXTS * 4
    alone = np.concatenate([reader.logits(QUESTION, [text]) for text in texts])
    for at_once in (1, 5, 32):
        monkeypatch.setattr("memlong.retriever.cross_encoder._AT_ONCE", at_once)
        np.testing.assert_allclose(reader.logits(QUESTION, texts), alone, atol=1e-4)
    assert reader.logits(QUESTION, []).shape == (0,)


def test_the_model_that_it_is_made_of_stays_as_it_is_and_lends_its_word_embeddings(bert, written):
    model, tokenizer = bert
    before = {name: value.clone() for name, value in model.named_parameters()}
    reader = CrossEncoder(model, tokenizer, written())
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name])
    own = reader._encoder
    assert own.embeddings.word_embeddings.weight is model.embeddings.word_embeddings.weight
    assert not torch.equal(own.get_submodule(QUERY).weight, model.get_submodule(QUERY).weight)


def test_a_pair_that_is_too_long_loses_the_end_of_its_longer_text(bert, written):
    reader = CrossEncoder(*bert, written(), max_tokens=24)
    long = "a lamp was lost at sea " * 20
    (found,) = reader.logits(QUESTION, [long])
    assert np.isfinite(found) and found == pytest.approx(float(reader.logits(QUESTION, [long + "in the end"])[0]))


def test_a_question_longer_than_a_pair_may_be_leaves_the_part_whole(bert, written):
    reader, long = CrossEncoder(*bert, written(), max_tokens=24), "who kept the lamp and the ledger " * 30
    found = reader.logits(long, TEXTS)
    assert np.isfinite(found).all() and np.ptp(found) > 0.01
    np.testing.assert_allclose(reader.logits(long + "in the end", TEXTS), found, atol=1e-5)


def test_how_the_encoder_s_own_tokenizer_cuts_and_pads_is_left_alone(bert, written):
    """Another thread may be about to make vectors with it, which must not lose the end of a text."""
    model, tokenizer = bert
    tokenizer(TEXTS, truncation=False, padding=False)
    CrossEncoder(model, tokenizer, written(), max_tokens=24).logits(QUESTION, ["a lamp was lost at sea " * 20, "rain"])
    assert tokenizer.backend_tokenizer.truncation is None and tokenizer.backend_tokenizer.padding is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score__bias": None}, "no score.weight and score.bias of 1"),
        ({f"{QUERY.replace('.', '__')}__lora_A": None}, "lora_B, which fits nothing"),
        ({"encoder__layer__9__output__LayerNorm__bias": torch.zeros(32)}, "which fits nothing"),
        ({NORM.replace(".", "__"): torch.zeros(7)}, r"of the shape \[7\] for \[32\]"),
        ({f"{QUERY.replace('.', '__')}__lora_B": torch.zeros(7, 2)}, r"of the shape \[7, 32\] for \[32, 32\]"),
    ],
)
def test_weights_of_another_model_are_refused(bert, written, changes, said):
    with pytest.raises(RetrieverError, match=said):
        CrossEncoder(*bert, written(**changes))


def test_an_update_without_its_other_half_is_refused(bert, written):
    with pytest.raises(RetrieverError, match="lora_A, which fits nothing"):
        CrossEncoder(*bert, written(**{f"{QUERY.replace('.', '__')}__lora_B": None}))


def test_a_folder_without_weights_and_a_broken_file_are_refused(bert, tmp_path):
    with pytest.raises(RetrieverError, match="could not be read"):
        CrossEncoder(*bert, tmp_path)
    (tmp_path / WEIGHTS).write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(RetrieverError, match="could not be read"):
        CrossEncoder(*bert, tmp_path)


def test_the_bundled_one_tells_the_evidence_from_what_only_has_the_question_s_words():
    hybrid = make_retriever("hybrid", folder=minilm_folder(hub=False), device="cpu")
    texts = [
        "The clock of the town hall had stood still since the war, and nobody asked about the hall.",
        "It was the locksmith Edda Brunn who at last repaired the clock of the town hall.",
        "The town hall of the next valley had no clock.",
    ]
    found = hybrid._cross_encoder.logits("Who repaired the clock of the town hall?", texts)
    assert found[1] > 5 and max(found[0], found[2]) < 2
    assert hybrid._cross_encoder.logits("How many moons has Jupiter?", texts).max() < -2
    assert load_file(BUNDLED / WEIGHTS)["score.weight"].shape == (1, 384)
