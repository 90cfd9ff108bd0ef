"""Measures of what a model with memory can do."""
