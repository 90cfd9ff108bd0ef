"""The parsing process: ``python -m app.documents.child``, request on stdin, answer on stdout, both JSON.

It limits itself before it looks at the file, imports the one parser it needs, answers and ends. It never
imports torch or gradio (a test checks): starting takes a fraction of a second.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from app.documents.limits import Limits
from app.documents.parse import parse_file
from memlong.errors import DocumentError

OUT_OF_MEMORY = b'{"memory": true}'
_OPEN_FILES = 64
_SPARE_BYTES = 64_000_000  # what is left for the answer when the parser has used up its memory


def restrict(limits: Limits) -> None:
    """Limit memory, processor time, open files and written bytes of this process, where the platform can."""
    try:
        import resource
    except ImportError:  # Windows: the wall limit of the parent remains
        return
    memory = limits.memory_bytes
    wanted = (
        (resource.RLIMIT_AS, memory, memory + _SPARE_BYTES),
        (resource.RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES, _OPEN_FILES),
    )
    for which, soft, hard in wanted:
        _, ceiling = resource.getrlimit(which)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(which, (soft, hard))
        except (ValueError, OSError):  # macOS refuses some: what it grants and the wall limit remain
            continue


def answer(request: dict[str, Any]) -> bytes:
    """Return the answer to one request as UTF-8 JSON: the fields of Parsed, or the three parts of an
    error."""
    limits = Limits(**request["limits"])
    try:
        parsed = parse_file(Path(request["path"]), request["name"], limits)
        return json.dumps({"parsed": asdict(parsed)}, ensure_ascii=False).encode("utf-8", "replace")
    except DocumentError as error:
        return json.dumps({"error": [error.given, error.allowed, error.do]}, ensure_ascii=False).encode(
            "utf-8", "replace"
        )
    except MemoryError:
        return OUT_OF_MEMORY


def main() -> None:
    """Serve one request."""
    sys.dont_write_bytecode = True
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get into the answer
    request = json.load(sys.stdin.buffer)
    restrict(Limits(**request["limits"]))
    out.write(answer(request))
    out.flush()
    os._exit(0)  # nothing to clean up, and tearing down a huge tree takes time


if __name__ == "__main__":
    main()
