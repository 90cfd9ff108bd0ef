"""Benchmarks: each a command that measures and reports as JSON. See benchmarks/README.md for what is measured."""
