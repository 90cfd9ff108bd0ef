"""The command line of ``prepare``."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

from training.data.packed import MANIFEST
from training.data.readers import READERS, passed_over


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``prepare`` takes."""
    what = f"folders, files ({', '.join(READERS)}), or hub:NAME[:CONFIG[:SPLIT]]"
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help=what)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--tokenizer", default="bundled-base", help="name or folder of the model that it belongs to")
    parser.add_argument("--min-tokens", type=int, default=64, help="shorter documents are left out")
    near = "leave out what shares so much of its runs of words with an earlier document (0: keep all)"
    parser.add_argument("--near-copies", type=float, default=0.8, help=near)
    parser.add_argument("--held-out", type=float, default=0.02, help="share of documents kept for evaluation")
    parser.add_argument("--limit-tokens", type=int, default=0, help="stop after so many (0: take everything)")
    parser.add_argument("--long-tokens", type=int, default=0, help="length-upsampling: what is long (0: off)")
    parser.add_argument("--long-share", type=float, default=0.7, help="share of tokens of long documents in each part")
    parser.add_argument("--licence", default="not given", help="of sources that name none")


def run(chosen: argparse.Namespace) -> int:
    """Prepare and print the manifest.

    Raises:
        MemLongError: when nothing can be read, or for options other than those that the folder was begun with.
    """
    from training.base import load_tokenizer
    from training.data.prepare import PrepareOptions, prepare

    if (chosen.out / MANIFEST).is_file():
        told = f"{chosen.out} was prepared before; what came to its sources since is not in it."
        print(f"{told} For that name another --out.", file=sys.stderr)
    left = [path for source in chosen.sources for path in passed_over(source)]
    if left:
        endings = ", ".join(sorted({path.suffix.lower() or path.name for path in left})[:8])
        print(f"Left out, for nothing here reads them: {len(left)} of the files ({endings})", file=sys.stderr)
    names = (
        "tokenizer",
        "min_tokens",
        "near_copies",
        "held_out",
        "limit_tokens",
        "long_tokens",
        "long_share",
        "licence",
    )
    options = PrepareOptions(tuple(chosen.sources), **{name: getattr(chosen, name) for name in names})
    # Progress is apart from the result, which a program may read.
    tell = partial(print, file=sys.stderr, flush=True)
    manifest = prepare(options, load_tokenizer(chosen.tokenizer), chosen.out, tell)
    unread = manifest.get("unread", {})  # which older folders do not tell
    if unread:
        reasons = "\n".join(f"  {path}: {why}" for path, why in unread.items())
        print(f"Left out, for they cannot be read: {len(unread)} of the files\n{reasons}", file=sys.stderr)
    print(json.dumps(manifest, indent=1))
    return 0
