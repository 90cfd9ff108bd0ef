"""A tiny BERT that reads pairs, a retriever made of it, and documents with facts that a question asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from memlong.retriever.hybrid import HybridRetriever
from tests.training.test_recipes import asked
from training.data import sources
from training.rank.config import RankConfig
from training.rank.pairs import PairSets, load_pairs
from training.rank.scorer import PairScorer
from training.rank.trainer import RankTrainer


@pytest.fixture(scope="session")
def bert_tokenizer() -> PreTrainedTokenizerFast:
    # Words and not learned pieces: which number a piece gets would differ from process to process.
    words = {word for _, text, questions in asked(6) for each in (text, *(q.question for q in questions))
             for word in re.findall(r"\w+|[^\w\s]", each.lower())}  # fmt: skip
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: number for number, word in enumerate([*special, *sorted(words)])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    raw.normalizer, raw.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


@pytest.fixture(scope="session")
def tiny_bert(bert_tokenizer) -> Callable[[], BertModel]:
    """Return a function that makes the same random BERT of two layers every time, without a pooling layer."""

    def make() -> BertModel:
        config = BertConfig(
            vocab_size=len(bert_tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=128,
            initializer_range=0.2,
            attn_implementation="eager",
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BertModel(config, add_pooling_layer=False).eval()

    return make


@pytest.fixture(scope="session")
def retriever(tiny_bert, bert_tokenizer, tmp_path_factory) -> HybridRetriever:
    folder: Path = tmp_path_factory.mktemp("bert")
    tiny_bert().save_pretrained(folder)
    bert_tokenizer.save_pretrained(folder)
    return HybridRetriever(folder, device="cpu", dtype=torch.float32, words=256, cross_encoder=None)


@pytest.fixture
def config(monkeypatch) -> RankConfig:
    monkeypatch.setitem(sources.SOURCES, "keepers", lambda data: asked(6))
    return RankConfig(
        sources=("keepers",),
        weights=(1.0,),
        chunk_tokens=64,
        candidates=3,
        steps=6,
        questions=4,
        pairs=5,
        rank=4,
        learning_rate=5e-3,
        warmup_steps=2,
        eval_every=3,
        eval_questions=6,
        save_every=2,
        threads=1,
        arithmetic="float32",
    )


@pytest.fixture
def scorer(tiny_bert, bert_tokenizer) -> Callable[[RankConfig], PairScorer]:
    return lambda config: PairScorer(tiny_bert(), bert_tokenizer, config.rank, config.max_tokens, seed=config.seed)


@pytest.fixture
def pairs(config, tiny_tokenizer, retriever, tmp_path) -> PairSets:
    return load_pairs(config, tiny_tokenizer, retriever, tmp_path / "pairs", lambda words: None)


@pytest.fixture
def build(config, scorer, pairs, tmp_path) -> Callable[..., RankTrainer]:
    def make(name: str = "run", changed: RankConfig = config) -> RankTrainer:
        return RankTrainer(changed, scorer(changed), pairs, tmp_path / name)

    return make
