"""Command line of the library."""

from memlong.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
