"""Tensors to a safetensors file, row by row, and back through the page cache.

The library's own writer wants whole tensors side by side in memory; a bank would be held twice while it is
saved. The format is simple enough to stream: 8 bytes of header length, a JSON header with type, shape and
byte range of every tensor, then the bytes (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import torch
from torch import Tensor

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int8: "I8", torch.uint8: "U8"}
_ALIGN = 8  # bytes; the format asks for it


@dataclass(frozen=True)
class Rows:
    """Some rows of a tensor, as one tensor of the file: nothing is copied before it is written.

    Attributes:
        tensor: first axis the row. picked: its rows, in the order they are written.
    """

    tensor: Tensor
    picked: Sequence[int]

    @property
    def shape(self) -> list[int]:
        """Shape in the file."""
        return [len(self.picked), *self.tensor.shape[1:]]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.tensor.itemsize

    def chunks(self) -> Iterable[memoryview]:
        """Yield the bytes of each row."""
        for row in self.picked:
            data = self.tensor[row].detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield data.numpy().data


def write_tensors(file: BinaryIO, tensors: Mapping[str, Rows]) -> None:
    """Write a safetensors file with these tensors, each in one piece."""
    header, offset = {}, 0
    for name, rows in tensors.items():
        header[name] = {
            "dtype": _NAMES[rows.tensor.dtype],
            "shape": rows.shape,
            "data_offsets": [offset, offset + rows.nbytes],
        }
        offset += rows.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % _ALIGN)
    file.write(struct.pack("<Q", len(text)) + text)
    for rows in tensors.values():
        for piece in rows.chunks():
            file.write(piece)
