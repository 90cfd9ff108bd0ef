"""The method as published (MemLong, arXiv 2408.16967), written from the paper to be compared with.

One chunk after the other runs alone through all layers and the head; its text is embedded as a query, the chunks
retrieved stand before the local keys of every retrieval layer in one softmax; then its text is embedded again as a
key, and the K-V of the memory layer are appended by concatenation. The oldest half of a full memory leaves.
What the head makes of all tokens of the text, in float32, is there at once in the end, as it is after the published
forward pass. That takes memory and time, which somebody who drops them can save: both can be measured.

Shapes: T tokens of a chunk, E hidden size, H heads, D head size, M retrieved tokens, V vocabulary, S stored tokens.
"""

from __future__ import annotations

from collections.abc import Iterator

import faiss
import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.llama.modeling_llama import LlamaForCausalLM, apply_rotary_pos_emb

from benchmarks.setups import Setup


class PublishedMemory:
    """A Llama that reads chunk by chunk with a growing memory.

    Args:
        setup: model, tokenizer and retriever. memory_tokens: stored tokens at most.
        eager: explicit attention weights, as the published implementation's one correct path; else the fused kernel.
        dtype: of stored K-V.
    """

    def __init__(
        self, setup: Setup, memory_tokens: int, eager: bool = True, dtype: torch.dtype = torch.bfloat16
    ) -> None:
        self.model: LlamaForCausalLM = setup.llama
        self.sizes, self.tokenizer, self.retriever = setup.sizes, setup.tokenizer, setup.retriever
        self.memory_tokens, self.eager, self.dtype = memory_tokens, eager, dtype
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        sizes = self.sizes
        empty = (1, sizes.heads, 0, sizes.hidden // sizes.heads)
        self.keys_1HSD = torch.empty(empty, dtype=self.dtype, device=self.model.device)
        self.values_1HSD = torch.empty_like(self.keys_1HSD)
        self.index = faiss.IndexFlatIP(self.retriever.dim)

    def read(self, text: str) -> Tensor:
        """Read and store a text, and return the logits [tokens, V] of all of it."""
        return self._logits(torch.cat(list(self._chunks(text))))

    def read_dropping(self, text: str) -> None:
        """Read and store a text; the logits of a chunk are gone when the next one is read."""
        for states_TE in self._chunks(text):
            self._logits(states_TE)

    @torch.no_grad()
    def _chunks(self, text: str) -> Iterator[Tensor]:
        """Yield the last states [T, E] of one chunk after the other, storing each."""
        size = self.sizes.chunk_tokens
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for start in range(0, len(ids), size):
            chunk = ids[start : start + size]
            words = self.tokenizer.decode(chunk)
            memory = self._retrieve(words)
            states_TE, keys, values = self._forward(torch.tensor([chunk], device=self.model.device), memory)
            self._store(words, keys, values)
            yield states_TE

    @torch.no_grad()
    def _logits(self, states_TE: Tensor) -> Tensor:
        logits_TV: Tensor = self.model.lm_head(states_TE)
        return logits_TV.float()

    def _retrieve(self, text: str) -> tuple[Tensor, Tensor] | None:
        query = self.retriever.embed_query(text)[None]
        if not self.index.ntotal:
            return None
        _, found = self.index.search(query, min(self.sizes.top_k, self.index.ntotal))
        size = self.sizes.chunk_tokens
        spans = [slice(size * int(entry), size * (int(entry) + 1)) for entry in sorted(found[0])]
        keys = torch.cat([self.keys_1HSD[:, :, span] for span in spans], dim=2)
        values = torch.cat([self.values_1HSD[:, :, span] for span in spans], dim=2)
        return keys.to(self.model.dtype), values.to(self.model.dtype)

    def _store(self, text: str, keys_1HTD: Tensor, values_1HTD: Tensor) -> None:
        size = self.sizes.chunk_tokens
        if self.keys_1HSD.shape[2] + size > self.memory_tokens:
            dropped = self.index.ntotal // 2
            self.keys_1HSD = self.keys_1HSD[:, :, dropped * size :]
            self.values_1HSD = self.values_1HSD[:, :, dropped * size :]
            kept = self.index.reconstruct_n(dropped, self.index.ntotal - dropped)
            self.index.reset()
            self.index.add(kept)
        self.keys_1HSD = torch.cat([self.keys_1HSD, keys_1HTD.to(self.dtype)], dim=2)
        self.values_1HSD = torch.cat([self.values_1HSD, values_1HTD.to(self.dtype)], dim=2)
        self.index.add(self.retriever.embed_documents([text]))

    def _forward(self, ids_1T: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return the last states [T, E] and the memory layer's un-rotated keys and values [1, H, T, D]."""
        body = self.model.model
        hidden = body.embed_tokens(ids_1T)
        positions = torch.arange(1, ids_1T.shape[1] + 1, device=hidden.device)[None]  # memory stands at 0
        cos, sin = body.rotary_emb(hidden, positions)
        stored: tuple[Tensor, Tensor] | None = None
        for index, layer in enumerate(body.layers):
            attention = layer.self_attn
            states = layer.input_layernorm(hidden)
            query, key, value = (
                project(states).unflatten(-1, (self.sizes.heads, -1)).transpose(1, 2)
                for project in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            if index == self.sizes.stored_layer:
                stored = key, value
            query, key = apply_rotary_pos_emb(query, key, cos, sin)
            if memory is not None and index in self.sizes.retrieval_layers:
                key, value = torch.cat([memory[0], key], dim=2), torch.cat([memory[1], value], dim=2)
            out = self._attend(query, key, value).transpose(1, 2).flatten(2)
            hidden = hidden + attention.o_proj(out)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        assert stored is not None
        return body.norm(hidden)[0], *stored

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        tokens, keys = query.shape[2], key.shape[2]
        visible = torch.ones(tokens, keys, dtype=torch.bool, device=query.device).tril(diagonal=keys - tokens)
        if not self.eager:
            return functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        logits = torch.matmul(query, key.transpose(2, 3)) * query.shape[-1] ** -0.5
        weights = logits.masked_fill(~visible, float("-inf")).softmax(dim=-1, dtype=torch.float32)
        return torch.matmul(weights.to(value.dtype), value)
