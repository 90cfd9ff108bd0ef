"""Retrieval causal attention: one softmax over retrieved and local keys."""
