"""MiniLM, BGE-M3 and sentence-transformers by their real code, on tiny weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from memlong.errors import RetrieverError
from memlong.retriever import Retriever, make_retriever

TEXTS = [
    "The harbour master kept a ledger of every ship.",
    "The bridge over the river was rebuilt in stone.",
    "salt",
    "",
    "A lamp, a rope and two barrels of salt were lost at sea.",
]
LONG = " ".join(TEXTS * 60)


@pytest.fixture(scope="module", params=["minilm", "bge-m3", "sentence"])
def retriever(request):
    folder, option = {
        "minilm": ("bert_folder", "folder"),
        "bge-m3": ("xlmr_folder", "model"),
        "sentence": ("sentence_folder", "model"),
    }[request.param]
    options = {option: str(request.getfixturevalue(folder))}
    return make_retriever(request.param, device="cpu", dtype=torch.float32, batch_size=2, **options)


def test_unit_vectors_in_the_order_of_the_texts(retriever):
    assert isinstance(retriever, Retriever)
    vectors = retriever.embed_documents(TEXTS)
    assert vectors.shape == (len(TEXTS), retriever.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):  # alone, so without padding
        np.testing.assert_allclose(retriever.embed_query(text), vector, atol=1e-5)


def test_no_text_gives_no_vector(retriever):
    assert retriever.embed_documents([]).shape == (0, retriever.dim)
    assert retriever.count_tokens([]) == []
    assert retriever.check([]) == []


def test_long_texts_are_reported_and_read_to_their_end(retriever):
    (report,) = retriever.check(["salt", LONG])
    assert (report.index, report.max_tokens) == (1, retriever.max_tokens)
    assert report.n_tokens == retriever.count_tokens([LONG])[0] > retriever.max_tokens
    changed = LONG[: -len(TEXTS[0])] + "rope rope rope rope rope rope"
    with_end, without = retriever.embed_documents([LONG, changed])
    assert np.linalg.norm(with_end) == pytest.approx(1, rel=1e-5)
    assert not np.allclose(with_end, without, atol=1e-4)


def test_text_at_the_limit_is_embedded_at_once(retriever):
    longest = "salt"
    while retriever.count_tokens([f"{longest} salt"])[0] <= retriever.max_tokens:
        longest += " salt"
    assert retriever.check([longest]) == []
    assert np.isfinite(retriever.embed_query(longest)).all()


def test_a_lone_surrogate_is_no_obstacle(retriever):
    assert np.isfinite(retriever.embed_query("salt \ud800 lamp")).all()


def test_minilm_is_the_mean_over_tokens(bert_folder):
    from transformers import AutoModel, AutoTokenizer

    retriever = make_retriever("minilm", folder=bert_folder, device="cpu", dtype=torch.float32)
    tokenizer, model = AutoTokenizer.from_pretrained(bert_folder), AutoModel.from_pretrained(bert_folder)
    batch = tokenizer(TEXTS[0], return_tensors="pt", truncation=False)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model(**batch).last_hidden_state.mean(dim=1), dim=-1)
    np.testing.assert_allclose(retriever.embed_query(TEXTS[0]), expected[0].numpy(), atol=1e-5)
    assert retriever.max_tokens == 64


def test_bge_equals_its_own_encode(xlmr_folder):
    from FlagEmbedding import BGEM3FlagModel

    retriever = make_retriever("bge-m3", model=str(xlmr_folder), device="cpu", dtype=torch.float32)
    own = BGEM3FlagModel(str(xlmr_folder), use_fp16=False, devices=["cpu"]).encode(TEXTS)["dense_vecs"]
    np.testing.assert_allclose(retriever.embed_documents(TEXTS), own, atol=1e-5)
    assert retriever.max_tokens == 514


def test_bge_shows_the_real_error(xlmr_folder, monkeypatch):
    retriever = make_retriever("bge-m3", model=str(xlmr_folder), device="cpu")

    def broken(ids_BT, mask_BT):
        raise RuntimeError("the real reason")

    monkeypatch.setattr(retriever, "_forward", broken)
    with pytest.raises(RuntimeError, match="the real reason"):
        retriever.embed_query("salt")


def test_sentence_takes_the_models_prompts(sentence_folder):
    plain = make_retriever("sentence", model=str(sentence_folder), device="cpu")
    asked = make_retriever("sentence", model=str(sentence_folder), device="cpu", query_prompt="query")
    np.testing.assert_allclose(asked.embed_query("salt"), plain.embed_query("ledger : salt"), atol=1e-5)
    np.testing.assert_allclose(asked.embed_documents(["salt"]), plain.embed_documents(["salt"]), atol=1e-5)
    assert asked.fingerprint != plain.fingerprint
    with pytest.raises(RetrieverError, match="This model has: query"):
        make_retriever("sentence", model=str(sentence_folder), device="cpu", query_prompt="qury")


def test_weights_make_the_fingerprint(bert_folder, tmp_path):
    import shutil

    copy = shutil.copytree(bert_folder, tmp_path / "copy")
    prints = {make_retriever("minilm", folder=folder).fingerprint for folder in (bert_folder, copy)}
    assert len(prints) == 1
    from transformers import AutoModel

    model = AutoModel.from_pretrained(copy)
    model.embeddings.word_embeddings.weight.data += 1
    model.save_pretrained(copy)
    prints.add(make_retriever("minilm", folder=copy).fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("minilm", {"folder": "nowhere/at/all"}),
        ("bge-m3", {"model": "nowhere/at-all"}),
        ("sentence", {"model": "nowhere/at-all"}),
        ("sentence", {"model": "/nowhere/at/all"}),
    ],
)
def test_a_missing_model_says_what_to_do(name, options, tmp_path):
    with pytest.raises(RetrieverError) as refusal:
        make_retriever(name, **options)
    assert "nowhere/at" in refusal.value.given
    assert refusal.value.do


def test_an_unreadable_folder_says_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    for name, option in (("minilm", "folder"), ("sentence", "model"), ("bge-m3", "model")):
        with pytest.raises(RetrieverError, match="could not be loaded"):
            make_retriever(name, **{option: str(tmp_path)})
