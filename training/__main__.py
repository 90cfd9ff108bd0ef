"""Command line of the training package."""

from training.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
