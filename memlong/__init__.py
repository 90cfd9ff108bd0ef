"""MemLong: a retrievable memory for decoder-only language models."""
