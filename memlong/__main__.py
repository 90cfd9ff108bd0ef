"""Command line of the library."""

import sys


def main() -> int:
    """Run the command line and return its exit status, whichever way it was started."""
    try:
        from memlong.cli import main as run
        from memlong.quiet import to_the_reader

        return to_the_reader(run)
    except KeyboardInterrupt:  # before it could say so itself
        return 130


if __name__ == "__main__":
    sys.exit(main())
