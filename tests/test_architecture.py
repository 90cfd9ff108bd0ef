"""The lines of the design that a machine can hold: who may import whom, and how long a thing may grow.

Every check is a plain function from source text to complaints, and is tried on a bad text first: a check that
cannot fail would hold nothing.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("app", "memlong", "training", "benchmarks")

MOST_LINES, MOST_STATEMENTS, MOST_ARGUMENTS = 400, 40, 6

# Packages of this repository that each of them may import.
PACKAGES: dict[str, set[str]] = {
    "app.py": {"app", "memlong"},
    "app": {"app", "memlong"},
    "training": {"training", "memlong"},
    "benchmarks": {"benchmarks", "memlong", "training"},
    "memlong": {"memlong"},
}

# Inside memlong: what each part builds on. A part may use all that its own foundations stand on. A file or
# folder that is not named here is a foundation of all of them, and builds on other such foundations only.
PARTS: dict[str, set[str]] = {
    "index": set(),
    "bank": {"index"},
    "attention": set(),
    "retriever": set(),
    "model": {"attention"},
    "generate": {"model"},
    "session": {"generate", "bank", "retriever"},
    "evaluation": {"session"},
    "fit": {"model"},
    # The command line stands on top of everything.
    "cli": {"evaluation", "fit"},
    "__main__": {"cli"},
}

# A library and the only places that may import it.
ONLY_IN: dict[str, tuple[str, ...]] = {
    "faiss": ("memlong/index/",),
    "FlagEmbedding": ("memlong/retriever/bge.py",),
    "gradio": ("app.py", "app/build.py", "app/theme.py", "app/tabs/"),
    "plotly": ("app/plots/",),
}
# A place and the libraries it must do without.
WITHOUT: dict[str, set[str]] = {
    "memlong/bank/ledger": {"torch", "transformers", "numpy"},
    "memlong/bank/eviction": {"torch", "transformers", "numpy"},
    "memlong/trace": {"torch", "transformers"},
    "memlong/config.py": {"torch", "transformers"},
    "memlong/attention/retrieval.py": {"transformers"},
    "memlong/bank": {"transformers"},
    "memlong": {"gradio", "plotly"},
    "training": {"gradio", "plotly"},
    "app/tabs": {"torch", "transformers"},
    "app/plots": {"torch", "transformers", "gradio"},
    "app/documents": {"torch", "transformers"},
    "app/rows": {"torch", "transformers"},
}
ATTENTION_REGISTRY = {"AttentionInterface", "ALL_ATTENTION_FUNCTIONS", "AttentionMaskInterface"}
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}

# Built from pieces, so that this file does not match itself.
HOMES = "|".join(("home", "root", "Users", "work", "opt", "srv", "mnt"))
UNWANTED = re.compile(
    rf"""(?<![\w.~:/}}-])/(?:{HOMES})/[\w.]      # a path of somebody's machine
    | /tmp/\w+/\w                                # likewise
    | \bpypi\.{"org"} | pythonhosted\.{"org"}    # a registry's host: the name of a package is enough
    | \bsub-?{"agent"}s?\b | \bhelper\s{"agent"} # how the project is worked on
    """,
    re.IGNORECASE | re.VERBOSE,
)


def imports(source: str, path: str) -> Iterator[str]:
    """Yield the dotted names that the file at ``path`` imports anywhere, relative ones made absolute."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def foundations(part: str) -> set[str]:
    """Return all parts of memlong that ``part`` may use, itself included."""
    return {part}.union(*(foundations(below) for below in PARTS.get(part, ())))


def wrong_directions(source: str, path: str) -> list[str]:
    """Complain about imports that go against the direction of the design."""
    own = path.split("/")
    complaints = []
    for name in imports(source, path):
        parts = name.split(".")
        if parts[0] in (*CODE, "tests") and parts[0] not in PACKAGES[own[0]]:
            complaints.append(f"{path} imports {name}: {own[0]} may use {sorted(PACKAGES[own[0]])} only")
        if own[0] != "memlong" or parts[0] != "memlong" or len(parts) < 2 or own[1] == "__init__.py":
            continue
        part = own[1].removesuffix(".py")
        if parts[1] in PARTS and parts[1] not in foundations(part):
            complaints.append(f"{path} imports {name}: in memlong, {part} may use {sorted(foundations(part))}")
    return complaints


def wrong_libraries(source: str, path: str) -> list[str]:
    """Complain about a library in a place that must do without it."""
    complaints = []
    for name in imports(source, path):
        library = name.split(".")[0]
        if library in ONLY_IN and not path.startswith((*ONLY_IN[library], "benchmarks/")):
            complaints.append(f"{path} imports {library}: only {ONLY_IN[library]} may")
        banned = [place for place, without in WITHOUT.items() if path.startswith(place) and library in without]
        complaints += [f"{path} imports {library}: {place} does without it" for place in banned]
    if path != "memlong/attention/register.py":
        named = {getattr(n, "id", getattr(n, "attr", "")) for n in ast.walk(ast.parse(source, path))}
        named |= {name.split(".")[-1] for name in imports(source, path)}
        complaints += [f"{path} names {x}: only register.py may" for x in sorted(named & ATTENTION_REGISTRY)]
    return complaints


def unpickling(source: str, path: str) -> list[str]:
    """Complain about anything that could unpickle: a file of a stranger could run code by it."""
    found = [name for name in imports(source, path) if name.split(".")[0] in UNPICKLERS or name == "torch.load"]
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.Attribute) and node.attr == "load" and ast.unparse(node.value) == "torch":
            found.append("torch.load")
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "trust_remote_code"):
            refused = isinstance(node.value, ast.Constant) and node.value.value is False
            found += [] if refused else [f"{node.arg}={ast.unparse(node.value)}"]
    return [f"{path} uses {name}: nothing is ever unpickled or run from data" for name in found]


def too_long(source: str, path: str) -> list[str]:
    """Complain about files and functions over the limits; self, cls, ``*args`` and docstrings are free."""
    complaints = []
    if (lines := len(source.splitlines())) > MOST_LINES:
        complaints.append(f"{path} has {lines} lines, the limit is {MOST_LINES}")
    for node in ast.walk(ast.parse(source, path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = sum(isinstance(inner, ast.stmt) for inner in ast.walk(node)) - 1
            statements -= ast.get_docstring(node, clean=False) is not None
            taken = [*node.args.posonlyargs, *node.args.args]
            taken = taken[1:] if taken and taken[0].arg in ("self", "cls") else taken
            arguments = len(taken) + len(node.args.kwonlyargs)
            for what, count, most in (
                ("statements", statements, MOST_STATEMENTS),
                ("arguments", arguments, MOST_ARGUMENTS),
            ):
                if count > most:
                    complaints.append(f"{path}:{node.lineno} {node.name} has {count} {what}, the limit is {most}")
    return complaints


def unread_fields(definition: str, class_name: str, others: list[str]) -> set[str]:
    """Return annotated fields of ``class_name`` that nobody reads as ``something.field``.

    Reads inside the class itself do not count; reads elsewhere in the defining file do.
    """
    tree = ast.parse(definition)
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == class_name]
    if not classes:
        raise LookupError(f"{class_name} is not defined in the text given")
    fields = {
        node.target.id
        for node in classes[0].body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    tree.body.remove(classes[0])
    for node in (node for each in (tree, *map(ast.parse, others)) for node in ast.walk(each)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            fields.discard(node.attr)
    return fields


# Takes the text of a file and its path from the root, returns complaints in words.
Check = Callable[[str, str], list[str]]
CHECKS: tuple[Check, ...] = (wrong_directions, wrong_libraries, unpickling, too_long)
BAD = [
    (wrong_directions, "memlong/bank/x.py", "from memlong.session import Session"),
    (wrong_directions, "memlong/bank/x.py", "from ..retriever import base"),
    (wrong_directions, "memlong/bank/x.py", "def f():\n    import memlong.attention.context"),
    (wrong_directions, "memlong/attention/x.py", "from memlong import retriever"),
    (wrong_directions, "memlong/model/x.py", "from memlong.generate import decode"),
    (wrong_directions, "memlong/index/x.py", "from memlong.bank.ledger import Ledger"),
    (wrong_directions, "memlong/session.py", "from memlong.evaluation import answers"),
    (wrong_directions, "memlong/text.py", "from memlong.bank import Bank"),
    (wrong_directions, "memlong/text.py", "import training.config"),
    (wrong_directions, "app/x.py", "from training import cli"),
    (wrong_directions, "training/x.py", "import app"),
    (wrong_directions, "app.py", "import benchmarks.reading"),
    (wrong_directions, "benchmarks/x.py", "from app.engine import Engine"),
    (wrong_libraries, "memlong/bank/bank.py", "import faiss"),
    (wrong_libraries, "memlong/retriever/sentence.py", "from FlagEmbedding import BGEM3FlagModel"),
    (wrong_libraries, "memlong/model/x.py", "from transformers import AttentionInterface"),
    (
        wrong_libraries,
        "memlong/model/x.py",
        "import transformers as t\nt.AttentionInterface.register('a', f)",
    ),
    (wrong_libraries, "app/documents/pdf.py", "import gradio as gr"),
    (wrong_libraries, "app/plots/masses.py", "import gradio"),
    (wrong_libraries, "app/tabs/ask.py", "import torch.nn"),
    (wrong_libraries, "memlong/bank/eviction.py", "from torch import topk"),
    (wrong_libraries, "memlong/trace/events.py", "import torch"),
    (unpickling, "memlong/x.py", "import pickle"),
    (unpickling, "memlong/x.py", "import torch\ntorch.load(path, weights_only=True)"),
    (unpickling, "memlong/x.py", "from torch import load"),
    (unpickling, "memlong/x.py", "numpy.load(path, allow_pickle=True)"),
    (unpickling, "memlong/x.py", "AutoModel.from_pretrained(name, trust_remote_code=flag)"),
    (too_long, "memlong/x.py", "x = 1\n" * (MOST_LINES + 1)),
    (too_long, "memlong/x.py", "def f():\n" + "    x = 1\n" * (MOST_STATEMENTS + 1)),
    (too_long, "memlong/x.py", "class C:\n    def f(self, a, b, c, d, e, *, g, h): ..."),
]
GOOD = [
    (
        "memlong/bank/bank.py",
        "from memlong.errors import BankError\nfrom memlong.index.faiss import FlatIndex",
    ),
    ("memlong/session.py", "from .bank.bank import Bank\nfrom memlong.model.wrapper import MemoryModel"),
    ("memlong/attention/register.py", "from transformers import AttentionInterface"),
    ("memlong/index/faiss.py", "import faiss"),
    ("memlong/x.py", "safetensors.torch.load(data)\nnumpy.load(path, allow_pickle=False)"),
    (
        "app/tabs/ask.py",
        "import gradio as gr\nfrom app.rows import evidence\nfrom memlong.config import AskOptions",
    ),
    (
        "memlong/x.py",
        "def f(self, a, b, c, d, e, g, *args, **rest):\n    'Words.'\n" + "    x = 1\n" * MOST_STATEMENTS,
    ),
]


@pytest.mark.parametrize(("check", "path", "source"), BAD)
def test_checks_find_what_they_are_for(check: Check, path: str, source: str) -> None:
    assert check(source, path)


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_checks_let_good_code_pass(path: str, source: str) -> None:
    assert [complaint for check in CHECKS for complaint in check(source, path)] == []


def test_unread_fields_are_found() -> None:
    definition = "class C:\n    a: int\n    b: int\n    c: int\n    def f(self): return self.b\n"
    assert unread_fields(definition, "C", ["config.a", "config.b = 1"]) == {"b", "c"}
    assert unread_fields(definition + "def g(x): return x.b + x.c\n", "C", ["config.a"]) == set()
    with pytest.raises(LookupError):
        unread_fields(definition, "Other", [])


@pytest.mark.parametrize(
    "text",
    [
        "see /ho" + "me/me/model",
        "cd /wo" + "rk/x",
        "`/tm" + "p/a/b`",
        "https://py" + "pi.org/simple",
        "a sub" + "agent",
    ],
)
def test_unwanted_words_are_found(text: str) -> None:
    assert UNWANTED.search(text)


@pytest.mark.parametrize("text", ["assets/opt/x", "~/.local/share", "https://a.b/opt/c", "the agent", "/home"])
def test_other_words_are_let_pass(text: str) -> None:
    assert not UNWANTED.search(text)


def code_files() -> list[str]:
    """Return the Python files of the repository, relative to its root."""
    files = [path for part in (*CODE, "tests") for path in sorted((ROOT / part).rglob("*.py"))]
    return [path.relative_to(ROOT).as_posix() for path in [*sorted(ROOT.glob("*.py")), *files]]


def complaints_of(check: Check, paths: list[str]) -> str:
    return "\n".join(line for path in paths for line in check((ROOT / path).read_text("utf-8"), path))


@pytest.mark.parametrize("check", [wrong_directions, wrong_libraries, unpickling])
def test_product_keeps_to_the_design(check: Check) -> None:
    assert complaints_of(check, [path for path in code_files() if not path.startswith("tests/")]) == ""


def test_files_and_functions_stay_small() -> None:
    assert complaints_of(too_long, code_files()) == ""


@pytest.mark.parametrize("class_name", ["MemoryConfig", "AskOptions"])
def test_every_setting_is_read_somewhere(class_name: str) -> None:
    defining = "memlong/config.py"
    others = [path for path in code_files() if path != defining and not path.startswith("tests/")]
    sources = [(ROOT / path).read_text("utf-8") for path in others]
    assert unread_fields((ROOT / defining).read_text("utf-8"), class_name, sources) == set()


@pytest.mark.parametrize("package", ["memlong", "app", "training"])
def test_importing_does_nothing_heavy(package: str) -> None:
    heavy = {"torch", "transformers", "gradio", "faiss", "FlagEmbedding", "sentence_transformers", "plotly"}
    program = f"import sys, {package}; print(' '.join(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert package in done.stdout.split()
    assert heavy & set(done.stdout.split()) == set()


def test_no_path_or_host_of_one_machine_is_written_down() -> None:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout to know the tracked files")
    found = []
    for name in filter(None, done.stdout.decode().split("\0")):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        # Like grep: a zero byte near the start means the file is not text.
        if b"\0" not in data[:8192]:
            lines = enumerate(data.decode("utf-8", "replace").splitlines(), 1)
            found += [f"{name}:{number}: {line.strip()[:80]}" for number, line in lines if UNWANTED.search(line)]
    assert found == []
