"""What every test stands on: quiet threads, no network, tiny models made on the spot.

The environment is set before anything heavy is imported: gradio, the hub's client and torch (one thread:
workers share the cores) read theirs at import.
"""

from __future__ import annotations

import os

os.environ.update(
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    GRADIO_ANALYTICS_ENABLED="False",
    TOKENIZERS_PARALLELISM="false",
    OMP_NUM_THREADS="1",
    OMP_WAIT_POLICY="PASSIVE",
    GOMP_SPINCOUNT="0",
)

import ipaddress
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]

# Prose and chat in small, so that the tokenizer learns whole words of the kind the tests write.
CORPUS = (
    "The harbour master of Brackwater kept a ledger of every ship, and every ship had a name. ",
    "In the third year the bridge over the river was rebuilt in stone; nobody knew who had paid for it. ",
    "Who kept the ledger? The harbour master kept it. When was the bridge rebuilt? In the third year. ",
    "A lamp, a rope, two barrels of salt and 1,204 bricks were lost. 'Write it down', she said. ",
)

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` where no NVIDIA GPU can be used."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU, and torch sees none here"))


def is_loopback(host: object) -> bool:
    """Tell whether ``host`` is this machine itself (a name or an address; empty means "any of mine")."""
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if host is None or host in ("", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(host).split("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(scope="session")
def _guarded_sockets() -> Iterator[list[str]]:
    """Refuse every connection and name look-up that would leave this machine, and remember the attempt."""
    attempts: list[str] = []
    patch = pytest.MonkeyPatch()

    def refuse(host: object, what: str) -> None:
        if not is_loopback(host):
            attempts.append(f"{what} {host}")
            raise ConnectionRefusedError(f"Tests use no network, but this one tried to {what} {host}")

    for name in ("connect", "connect_ex"):
        real_connect = getattr(socket.socket, name)

        def connect(self: socket.socket, address: Any, _real: Callable[..., Any] = real_connect) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6):
                refuse(address[0], "connect to")
            return _real(self, address)

        patch.setattr(socket.socket, name, connect)

    real_lookup = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        refuse(host, "look up")
        return real_lookup(host, *args, **kwargs)

    patch.setattr(socket, "getaddrinfo", lookup)
    yield attempts
    patch.undo()


@pytest.fixture(autouse=True)
def no_network(_guarded_sockets: list[str]) -> Iterator[list[str]]:
    """Fail a test that tried to leave this machine, even when the code under test swallowed the refusal.

    Yields the list of attempts; a test of the guard itself empties it.
    """
    _guarded_sockets.clear()
    yield _guarded_sockets
    assert not _guarded_sockets, f"no test may use the network: {_guarded_sockets}"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Take back the number of threads that a test gave torch: it holds for the process, and later tests share it."""
    yield
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != 1:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder ``shared`` beside the checkout (larger test data); skips where there is none."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder 'shared' beside the checkout, and there is none")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of at most 512 tokens with ChatML: any text survives encode and decode unchanged."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


@pytest.fixture(scope="session")
def tiny_llama(tiny_tokenizer: PreTrainedTokenizerFast) -> Callable[..., LlamaForCausalLM]:
    """Return ``tiny_llama(layers=6, hidden=64, heads=4, kv_heads=2, vocab=None, seed=0, **config)``.

    Each call builds a new random float32 Llama in evaluation mode; equal arguments give equal weights.
    ``vocab=None`` takes the tiny tokenizer's. Weights are larger than usual, so that attention is not flat.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    def build(
        layers: int = 6,
        hidden: int = 64,
        heads: int = 4,
        kv_heads: int = 2,
        vocab: int | None = None,
        seed: int = 0,
        **config: Any,
    ) -> LlamaForCausalLM:
        settings: dict[str, Any] = {
            "vocab_size": vocab or len(tiny_tokenizer),
            "hidden_size": hidden,
            "intermediate_size": 2 * hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_heads,
            "max_position_embeddings": 4096,
            "initializer_range": 0.2,
            "tie_word_embeddings": False,
            "bos_token_id": None,
            "eos_token_id": tiny_tokenizer.eos_token_id,
            "pad_token_id": tiny_tokenizer.pad_token_id,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return LlamaForCausalLM(LlamaConfig(**(settings | config))).eval()

    return build
