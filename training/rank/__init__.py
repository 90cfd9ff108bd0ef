"""Training the cross-encoder that reads a question beside the parts of chunks (memlong/retriever/cross_encoder.py)."""
