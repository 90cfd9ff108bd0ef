"""``python -m training.data.chronicle``."""

import sys

from training.data.chronicle.cli import main

if __name__ == "__main__":
    sys.exit(main())
