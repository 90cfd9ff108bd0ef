"""The decode loop: equal to the model's own greedy decoding, sampling rules, stop rules, spilling."""

from __future__ import annotations

import pytest
import torch

from memlong.config import AskOptions, MemoryConfig
from memlong.generate import Generation, Hooks, _sample
from memlong.model.wrapper import MemoryModel


@pytest.fixture
def model(tiny_llama, tiny_tokenizer):
    return MemoryModel(tiny_llama(), tiny_tokenizer, MemoryConfig(chunk_tokens=16, window_tokens=16))


def run(model: MemoryModel, prompt: list[int], **options):
    spilled: list[int] = []
    generation = Generation(model, prompt, AskOptions(**options), Hooks(lambda newest: None, spilled.extend))
    return generation, list(generation.tokens()), spilled


def test_greedy_decoding_is_the_models_own(model, tiny_tokenizer):
    prompt = tiny_tokenizer("The harbour master kept")["input_ids"]
    _, tokens, _ = run(model, prompt, max_tokens=12)
    expected = model.model.generate(
        torch.tensor([prompt]),
        max_new_tokens=12,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=tiny_tokenizer.eos_token_id,
    )[0, len(prompt) :].tolist()
    assert [token.token_id for token in tokens] == [t for t in expected if t != tiny_tokenizer.eos_token_id]


def test_log_probabilities_are_the_models_own(model, tiny_tokenizer):
    prompt = tiny_tokenizer("Who kept the ledger?")["input_ids"]
    _, tokens, _ = run(model, prompt, max_tokens=5)
    ids = torch.tensor([prompt + [token.token_id for token in tokens]])
    with torch.no_grad():
        logprobs = model.model(ids).logits[0].log_softmax(-1)
    for index, token in enumerate(tokens):
        assert token.logprob == pytest.approx(float(logprobs[len(prompt) + index - 1, token.token_id]), abs=1e-4)


def test_sampling_repeats_with_its_seed_and_keeps_to_the_nucleus():
    logits = torch.tensor([4.0, 3.9, 1.0, 0.0, -2.0])
    options = AskOptions(temperature=1.0, top_p=0.8)
    draws = [_sample(logits, options, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert set(draws) == {0, 1}
    again = [_sample(logits, options, torch.Generator().manual_seed(seed)) for seed in range(200)]
    assert draws == again


def test_stop_texts_end_the_answer_and_are_cut_off(model, tiny_tokenizer):
    # What random weights say differs from one processor to the next: take a prompt after which they say enough.
    prompts = [tiny_tokenizer(text)["input_ids"] for text in ("In the third year", "The ledger", "Who kept it?", "A")]
    prompt, free = next(
        (prompt, free) for prompt in prompts if len((free := run(model, prompt, max_tokens=10)[0]).text) > 2
    )
    stop = free.text[-2:]
    generation, _, _ = run(model, prompt, max_tokens=10, stop=(stop,))
    assert generation.stop_reason == "stop text" and generation.text == free.text[: free.text.index(stop)]
    assert free.stop_reason in ("length", "end")


def test_a_full_local_context_goes_on_as_if_it_had_started_there(tiny_llama, tiny_tokenizer):
    """After a spill, what is left is numbered from 1 again: the next token is that of a fresh run over it."""
    config = MemoryConfig(chunk_tokens=8, window_tokens=8, local_tokens=24)
    model = MemoryModel(tiny_llama(), tiny_tokenizer, config)
    prompt = list(range(10, 30))
    _, tokens, spilled = run(model, prompt, max_tokens=10, stop=("never",))
    everything = prompt + [token.token_id for token in tokens]
    assert spilled == everything[: len(spilled)] and len(spilled) % 8 == 0 and spilled
    kept = everything[len(spilled) : -1]
    with torch.no_grad():
        assert int(model.model(torch.tensor([kept])).logits[0, -1].argmax()) == everything[-1]
