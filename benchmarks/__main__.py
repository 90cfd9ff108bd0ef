"""List the benchmarks, or run them all: ``python -m benchmarks [--list] [NAME ...]``; reports go to results/."""

from __future__ import annotations

import argparse
import subprocess
import sys

NAMES = {
    "reading": "reading and scoring against the published method and full attention, growth, peak memory",
    "decoding": "time per generated token with memory against the plain model",
    "search": "vector index and ledger at 1k, 32k and 1M chunks",
    "policies": "every eviction policy replayed on a book of 100,000 tokens",
    "bundled": "the bundled model: reading against the machine's limit, first token, decoding",
    "training": "a training step with memory against one without",
}


def main() -> int:
    """Run each benchmark in a process of its own and return the number that failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(NAMES)}; all when none is given")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; choose from: {', '.join(NAMES)}")
    if options.list:
        print("\n".join(f"{name:10} {words}" for name, words in NAMES.items()))
        return 0
    failed = 0
    for name in options.names or NAMES:
        print(f"\n== {name}: {NAMES[name]}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{name}", "--save", "--device", options.device]
        failed += subprocess.run(command, check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
