"""Prepare data, train and evaluate memory-augmented language models."""
