"""Command line of the training package."""

from memlong.quiet import to_the_reader
from training.cli import main

if __name__ == "__main__":
    raise SystemExit(to_the_reader(main))
