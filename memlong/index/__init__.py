"""Exact search over embeddings, by our own ids. Two implementations of one truth: faiss and plain numpy.

Nothing is imported here: faiss is loaded by the index that needs it.
"""
