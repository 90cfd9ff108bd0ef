"""Questions without an answer: as many as the recipe says, with what retrieval finds, and words that say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from memlong.evaluation.answers import NOT_IN_TEXT, abstains
from training.config import TrainConfig
from training.data.passages import Passages, cut
from training.data.questions import Question
from training.questions import IGNORED, QuestionSampler, collate

TEXT = "The lamp was kept by Bram. " * 20


@pytest.fixture
def document(tiny_tokenizer) -> Passages:
    known = [Question(f"a{i}", "d", f"Who kept lamp {i}?", ("Bram",), evidence=((0, 27),)) for i in range(6)]
    unknown = [Question(f"u{i}", "d", f"Who sold lamp {i}?", (), answerable=False) for i in range(6)]
    return cut(tiny_tokenizer, "d", TEXT, [*known, *unknown], 16)


def sampler(document: Passages, **changes) -> QuestionSampler:
    draw = np.random.default_rng(0)
    config = replace(TrainConfig("test", batch_size=200, warm_documents=1, single_steps=1, sorted_steps=1), **changes)
    sizes = len(document.chunks), len(document.asked)
    chunks, asked = (draw.normal(size=(size, 4)) for size in sizes)
    return QuestionSampler(config, [document], {"d": chunks}, {"d": asked})


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_the_recipe_says_how_many(document, share):
    drawn = sampler(document, unanswerable=share).draw(step=5)
    without = sum(not item.asked.question.answerable for item in drawn)
    assert abs(without / len(drawn) - share) < 0.1 and (share or not without)


@pytest.mark.parametrize("step", [0, 5])
def test_memory_holds_what_retrieval_finds(document, step):
    drawn = [item for item in sampler(document, unanswerable=0.5).draw(step) if not item.asked.gold]
    assert drawn
    assert all(1 <= len(item.chunks) <= (1 if step == 0 else 4) for item in drawn)


def test_the_label_says_that_the_text_does_not_tell(document, tiny_tokenizer):
    item = next(i for i in sampler(document, unanswerable=1.0).draw(step=5) if not i.asked.question.answerable)
    labels = collate(tiny_tokenizer, [item], 24).labels_BA
    said = tiny_tokenizer.decode(labels[labels != IGNORED], skip_special_tokens=True)
    assert said.strip() == NOT_IN_TEXT and abstains(said)
