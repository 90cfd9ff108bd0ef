"""Command line of the library."""

import sys

if __name__ == "__main__":
    try:
        from memlong.cli import main
        from memlong.quiet import to_the_reader

        status = to_the_reader(main)
    except KeyboardInterrupt:  # before it could say so itself
        status = 130
    sys.exit(status)
