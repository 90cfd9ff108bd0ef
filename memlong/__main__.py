"""Command line of the library."""

import sys

if __name__ == "__main__":
    try:
        from memlong.cli import main

        status = main()
    except KeyboardInterrupt:  # before it could say so itself
        status = 130
    sys.exit(status)
