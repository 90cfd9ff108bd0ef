"""Training of what points at the words of a text that answer a question (memlong/retriever/pointer.py)."""
