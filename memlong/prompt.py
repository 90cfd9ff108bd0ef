"""How a question becomes token ids: one place, used to answer and to train."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from memlong.chunking import iter_tokens, special_texts, without_surrogates

# Said once, so that the untrained model, the trained one and every comparison see the same words.
_PASSAGES = "Passages from the text:\n\n{passages}\n\nQuestion: {question}"


def prompt_text(
    tokenizer: Any, question: str, passages: Sequence[str] = (), history: Sequence[tuple[str, str]] = ()
) -> str:
    """Return the prompt of a question, by the model's own chat template when it has one.

    Args:
        tokenizer: the model's. question: as asked. passages: texts put before the question ("answer from passages").
        history: earlier (question, answer) pairs of the conversation, oldest first.
    """
    question = _defused(tokenizer, question)
    passages = [_defused(tokenizer, passage) for passage in passages]
    asked = _PASSAGES.format(passages="\n\n".join(passages), question=question) if passages else question
    if getattr(tokenizer, "chat_template", None):
        turns: list[dict[str, str]] = []
        for earlier, answer in history:
            told = _defused(tokenizer, earlier), _defused(tokenizer, answer)
            turns += [{"role": "user", "content": told[0]}, {"role": "assistant", "content": told[1]}]
        turns.append({"role": "user", "content": asked})
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    lines = [f"Question: {earlier}\nAnswer: {answer}\n" for earlier, answer in history]
    # No blank after the colon: a tokenizer's word pieces start with their blank.
    return "\n".join([*lines, f"{asked if passages else f'Question: {asked}'}\nAnswer:"])


def _defused(tokenizer: Any, text: str) -> str:
    """Put a blank into what looks like a special token, so that no text can end its own turn."""
    for name in special_texts(tokenizer):
        text = text.replace(name, f"{name[0]} {name[1:]}")
    return text


def encode_prompt(
    tokenizer: Any, question: str, passages: Sequence[str] = (), history: Sequence[tuple[str, str]] = ()
) -> list[int]:
    """Return the token ids of :func:`prompt_text`; a template brings its own special tokens."""
    text = prompt_text(tokenizer, question, passages, history)
    special = not getattr(tokenizer, "chat_template", None)
    return list(tokenizer(without_surrogates(text), add_special_tokens=special)["input_ids"])


def answer_ids(tokenizer: Any, answer: str) -> list[int]:
    """Return the ids of an answer as the model should write it, its end token included (for training)."""
    return [*answer_words(tokenizer, answer), end_token(tokenizer)]


def answer_words(tokenizer: Any, answer: str) -> list[int]:
    """Return the ids of an answer's words as they stand behind a prompt; what looks like a special token is text."""
    text = answer if getattr(tokenizer, "chat_template", None) else f" {answer}"
    return [token for token, _, _ in iter_tokens(tokenizer, text)]


def end_token(tokenizer: Any) -> int:
    """Return the token that ends an assistant's turn."""
    return int(tokenizer.eos_token_id)
