"""A decomposer marks the words of a question that must be found first; ours leaves most questions as they are."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from safetensors.torch import save_file

from memlong.errors import RetrieverError
from memlong.retriever import make_retriever
from memlong.retriever.decomposer import WEIGHTS, Decomposer, asking, best_span
from memlong.retriever.hybrid import HybridRetriever

QUESTION = "who kept the ledger of the harbour"


def units(person: float, first: int = 3, last: int = 7, scale: float = 8.0) -> dict[str, torch.Tensor]:
    """Return linear units whose span logits are two of a token's states, times ``scale``; the person unit is fixed."""
    span = torch.zeros(2, 32)
    span[0, first] = span[1, last] = scale
    return {
        "span.weight": span, "span.bias": torch.zeros(2),
        "person.weight": torch.zeros(1, 32), "person.bias": torch.tensor([person]),
    }  # fmt: skip


@pytest.fixture
def written(tmp_path):
    def write(weights: dict[str, torch.Tensor]):
        save_file(weights, tmp_path / WEIGHTS)
        return tmp_path

    return write


def test_the_best_span_is_the_likeliest_that_ends_where_it_begins_or_later():
    logits = torch.tensor([[1.0, 0.5], [0, 5], [4, 0], [0, 3], [-1, 4.5]])
    # Token 1 ends best and token 2 begins best, but a span does not end before it begins.
    assert best_span(logits, 32) == (2, 4, pytest.approx(4 + 4.5 - 1.5))
    assert best_span(logits, 2) == (2, 3, pytest.approx(4 + 3 - 1.5))
    assert best_span(logits, 1) == (1, 1, pytest.approx(5 - 1.5))
    assert best_span(logits[:1], 32) is None


def test_it_marks_what_the_units_of_its_file_say(bert, written):
    model, tokenizer = bert
    batch = tokenizer(QUESTION, return_tensors="pt", return_offsets_mapping=True)
    places = batch.pop("offset_mapping")[0].tolist()
    with torch.no_grad():
        states = model(**batch).last_hidden_state[0]
    seen = set()
    # The tiny tokenizer's pieces differ from run to run, so small logits make sure of margins that are too small.
    for pair, scale in product(permutations(range(0, 32, 4), 2), (8.0, 0.1)):
        first, last, margin = best_span(scale * states[:-1][:, list(pair)], 32)
        if abs(margin - 3) < 1e-2:
            continue  # two computations of one margin differ in rounding
        start, end = places[first][0], places[last][1]
        expected = (start, end) if margin >= 3 and (start, end) != (0, len(QUESTION)) else None
        step = Decomposer(model, tokenizer, written(units(1.0, *pair, scale))).first_step(QUESTION)
        assert step == (expected and (expected, f"Who is {QUESTION[start:end]}?"))
        if step and step.span not in seen:
            thing = Decomposer(model, tokenizer, written(units(-1.0, *pair, scale))).first_step(QUESTION)
            assert thing.question == f"What is {QUESTION[start:end]}?"
        seen.add(step and step.span)
    assert len(seen) > 3 and None in seen


def test_words_become_a_question():
    assert asking("the person who built the mill", True) == "Who built the mill?"
    assert asking("The woman who was a miller", True) == "Who was a miller?"
    assert asking("the person whom Ada married", True) == "Who is the person whom Ada married?"
    assert asking("The teacher of Ada", True) == "Who is the teacher of Ada?"
    assert asking("Ada's brother", True) == "Who is Ada's brother?"
    assert asking("the one who sank", False) == "What is the one who sank?"


def test_nothing_is_marked_where_the_null_place_is_as_likely(bert, written):
    weights = units(1.0)
    weights["span.weight"] = torch.zeros(2, 32)
    decomposer = Decomposer(*bert, written(weights))
    assert decomposer.first_step(QUESTION) is None and decomposer.first_step("") is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"span.weight": None}, r"no span\.weight and span\.bias of 2"),
        ({"person.weight": torch.zeros(2, 32)}, r"no person\.weight and person\.bias of 1"),
        ({"encoder.layer.9.x": torch.zeros(1)}, r"encoder\.layer\.9\.x, which fits nothing"),
    ],
)
def test_foreign_weights_are_refused(bert, written, change, found):
    weights = {name: value for name, value in (units(1.0) | change).items() if value is not None}
    with pytest.raises(RetrieverError, match=rf"{found}.*training decompose"):
        Decomposer(*bert, written(weights))


def test_a_missing_file_is_refused(bert, tmp_path):
    with pytest.raises(RetrieverError, match=r"could not be read.*training decompose"):
        Decomposer(*bert, tmp_path)


def test_hybrid_without_it_takes_nothing_apart(bert_folder):
    retriever = HybridRetriever(bert_folder, device="cpu", dtype=torch.float32, words=64)
    assert retriever.first_step(QUESTION) is None and not retriever.notice


@pytest.fixture(scope="module")
def hybrid():
    try:
        return make_retriever("hybrid")
    except RetrieverError as error:
        pytest.skip(f"MiniLM is not installed: {error}")


@pytest.mark.parametrize(
    ("question", "step"),
    [
        ("Where was the person who built the Fenwick Mill born?", "Who built the Fenwick Mill?"),
        ("What is the keeper of the bell Orlath afraid of?", "Who is the keeper of the bell Orlath?"),
        ("The teacher of Ada Brenn lives in which street?", "Who is the teacher of Ada Brenn?"),
        ("How old is the town in which Ada Brenn was born?", "What is the town in which Ada Brenn was born?"),
        ("When did the wife of Captain Holm die?", "Who is the wife of Captain Holm?"),
    ],
)
def test_ours_says_what_must_be_found_first(hybrid, question, step):
    found = hybrid.first_step(question)
    assert found is not None and found.question == step
    words = question[slice(*found.span)]
    assert asking(words, step.startswith("Who")) == step


@pytest.mark.parametrize(
    "question",
    [
        "Where was Ada Brenn born?",
        "Who built the Fenwick Mill?",
        "Who is the keeper of the bell Orlath?",
        "Who is the person whom Fanard Dellintar married?",  # to ask it before itself would ask for who that is
        "What is the name of the wife of Captain Holm?",
        "Who owes more to the guild chest, Ada Brenn or Tom Hale?",
        "How many boats did Ada Brenn launch?",
        "What did the fox say to the crow?",
        "Why did the princess leave the castle?",
        "When was the university founded?",
        "Summarise the story.",
        "Where was [SEP] the person who built the Fenwick Mill born?",
        "x",
        "",
    ],
)
def test_ours_leaves_questions_that_one_place_answers(hybrid, question):
    assert hybrid.first_step(question) is None
