"""Training of what takes a question apart: which of its words stand for something that must be found first."""
