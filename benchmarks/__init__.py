"""Benchmarks: JSON in, nothing hidden. See docs/benchmarks.md for what is measured and how."""
