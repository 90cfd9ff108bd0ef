"""What a recipe starts from: its retriever."""

from __future__ import annotations

import pytest

from memlong.errors import ModelError
from memlong.retriever import hybrid
from training import base


def test_training_keeps_more_scores_than_a_session_does(monkeypatch):
    """A session's few would be gone when the same questions come up again, and each be read anew."""

    class Noting(hybrid.HybridRetriever):
        kept = hybrid._KEPT_SCORES

        def __init__(self):
            """Load nothing."""

        def keep_scores(self, most):
            self.kept = most

    monkeypatch.setattr(base, "make_retriever", lambda name: Noting())
    assert base.load_retriever("hybrid").kept > 10 * hybrid._KEPT_SCORES


@pytest.mark.parametrize("load", [base.load_base, base.load_tokenizer, base.open_base_config])
def test_a_model_that_is_not_there_is_named(load, tmp_path):
    with pytest.raises(ModelError, match=r"Model .*gone. cannot be had"):
        load(str(tmp_path / "gone"))
