"""What a person can set when starting the app: a command line option and an environment variable for each.

A field's metadata holds its help text and, where there are any, its choices; the command line, the
environment and the help page are made from it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

from app import spaces
from memlong.bank.eviction import POLICIES
from memlong.errors import ConfigError, MemLongError, ModelError, RetrieverError, unknown_name
from memlong.paths import is_path
from memlong.retriever import RETRIEVERS, split_name

PREFIX = "MEMLONG_"
# Number types, and the two quantised forms of the weights.
PRECISIONS: tuple[str, ...] = ("auto", "float32", "bfloat16", "float16", "8bit", "4bit")
# The retriever "sentence" stands for any model of the sentence-transformers library, so it is written with its name.
RETRIEVER_MENU: tuple[str, ...] = ("auto", *(name for name in RETRIEVERS if name != "sentence"))
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d{1,3})?")
_POLICIES = tuple(POLICIES)
# Where a proxy shows the app: a path, or a whole address.
_ROOT = re.compile(r"(https?://[^\s/]+)?(/\S*)?")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


def _option(default: Any, text: str, choices: Sequence[str] = (), most: int | None = None) -> Any:
    return field(default=default, metadata={"help": text, "choices": tuple(choices), "most": most})


@dataclass(frozen=True)
class Settings:
    """Everything that is decided at the start. See ``python app.py --help`` for what each field means.

    Raises:
        ConfigError: for a value that is not allowed. RetrieverError: for a retriever that is not known.
    """

    host: str = _option("127.0.0.1", "address to listen on; 0.0.0.0 lets other machines in")
    port: int = _option(7860, "port to listen on")
    model: str = _option("bundled", "'bundled', a Hugging Face id, or a folder with a decoder-only model")
    retriever: str = _option(
        "auto", f"embedder of chunks and questions: {', '.join(RETRIEVER_MENU)}, or sentence:MODEL"
    )
    device: str = _option("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: str = _option("auto", "number type of the weights; auto measures what is fastest", PRECISIONS)
    capacity: int = _option(131_072, "tokens that each session's bank holds before it evicts")
    policy: str = _option("trigger_count", "who leaves when the bank is full", _POLICIES)
    memory: str = _option("", "settings of the memory, as 'top_k=8 preset=own stored_layers=8-29'")
    allow_changes: str = _option(
        "auto",
        "whether visitors may load other models and start training; auto allows it where only this machine can reach "
        "the app",
        ("auto", "on", "off"),
    )
    data_dir: Path | None = _option(None, "folder for converted models; the platform's own place by default")  # noqa: RUF009
    upload_mb: int = _option(100, "largest file that may be uploaded, in megabytes", most=1_000_000)
    characters: int = _option(20_000_000, "longest text that may be read, in characters")
    sessions: int = _option(16, "visitors at the same time", most=1000)
    session_minutes: int = _option(60, "minutes without a click after which a session may be closed", most=1_000_000)
    closed_minutes: int = _option(
        30,
        "minutes that what a closed page read is kept, so that a reloaded or reopened page finds it again",
        most=1_000_000,
    )
    share: bool = _option(False, "make a temporary public link (sends all traffic through gradio's servers)")
    auth: str = _option("", "NAME:PASSWORD that visitors must enter (better in the environment than here)")
    root_path: str = _option("", "path of the app behind a proxy, such as /memlong")
    mcp: bool = _option(False, "also serve the API to programs as an MCP server (needs the package mcp)")

    def __post_init__(self) -> None:
        for each in fields(self):
            choices, value = each.metadata["choices"], getattr(self, each.name)
            if choices and value not in choices:
                raise ConfigError(f"{each.name}={value!r}", f"One of: {', '.join(choices)}", _advice(each))
            if type(value) is int and each.name != "port":
                _require_between(each, value)
        split_name(self.retriever)
        if not _DEVICE.fullmatch(self.device):
            raise ConfigError(
                f"device={self.device!r}", "auto, cpu, cuda, cuda:1, mps", "Change --device or MEMLONG_DEVICE"
            )
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port={self.port}", "0 (any that is free) to 65535", "Change --port or MEMLONG_PORT")
        if not self.host.strip():
            raise ConfigError("host=''", "A name or an address of this machine", "Change --host or MEMLONG_HOST")
        if not _ROOT.fullmatch(self.root_path):
            advice = "Change --root-path or MEMLONG_ROOT_PATH"
            raise ConfigError(f"root_path={self.root_path!r}", "A path such as /memlong, or a web address", advice)
        if self.auth and not all(self.auth.partition(":")[::2]):
            raise ConfigError("A login without a name or a password", "NAME:PASSWORD", "Set MEMLONG_AUTH so")

    def require_folders(self) -> None:
        """Refuse a model or a retriever that can only be a folder where there is none; hub ids are not looked up.

        Raises:
            ModelError, RetrieverError: when there is no such folder.
        """
        model = self.retriever.partition(":")[2]
        named: tuple[tuple[str, str, type[MemLongError], str], ...] = (
            ("model", self.model, ModelError, "A folder, a hub id or 'bundled'"),
            ("retriever", model, RetrieverError, "sentence: and a folder or a hub id"),
        )
        for name, folder, error, allowed in named:
            if is_path(folder) and not _is_folder(folder):
                raise error(f"There is no folder {folder!r}", allowed, f"Change {option(name)} or {variable(name)}")

    def require_data_dir(self) -> None:
        """Make the data folder if it is named and there is none; one that is there may be read-only.

        Raises:
            ConfigError: when it cannot be made, or is no folder.
        """
        if self.data_dir is None:
            return
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            given = f"data_dir={self.data_dir} ({error.strerror})"
            advice = "Change --data-dir or MEMLONG_DATA_DIR"
            raise ConfigError(given, "A folder that is there or can be made", advice) from error

    @property
    def credentials(self) -> tuple[str, str] | None:
        """Name and password that visitors must enter, or None."""
        name, _, password = self.auth.partition(":")
        return (name, password) if self.auth else None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the app."""
        return self.host in _LOOPBACK and not self.share and not self.root_path

    @property
    def changes_allowed(self) -> bool:
        """Whether visitors may load other models and start training."""
        if self.allow_changes == "auto":
            return self.is_local
        return self.allow_changes == "on"

    @property
    def quantization(self) -> str | None:
        """``8bit``, ``4bit``, or None."""
        return self.precision if self.precision in ("8bit", "4bit") else None

    @property
    def dtype(self) -> str:
        """Number type for the loader; ``auto`` where the weights are quantised."""
        return "auto" if self.quantization else self.precision


def from_command_line(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings: options win over environment variables, these over the defaults.

    Raises:
        ConfigError: for an unknown option, or a value that is not allowed. SystemExit: after ``--help``.
    """
    made, hints = parser(), get_type_hints(Settings)
    chosen, unknown = made.parse_known_args(arguments)
    if unknown:
        raise unknown_name("option", unknown[0], [option(each.name) for each in fields(Settings)])
    given = {key: value for key, value in vars(chosen).items() if value is not None}
    for name, value in given.items():
        if isinstance(value, str):
            given[name] = _parse(option(name), name, hints[name], value)
    return Settings(**(from_environment(environment) | given))


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return what the ``MEMLONG_*`` variables set, and on a hosted Space what fits its machine."""
    hints = get_type_hints(Settings)
    found: dict[str, Any] = spaces.defaults(environment)
    for each in fields(Settings):
        text = environment.get(variable(each.name), "").strip()
        if text:
            found[each.name] = _parse(variable(each.name), each.name, hints[each.name], text)
    return found


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """Return what to say about variables that begin as ours do and are none: nobody reads them."""
    known = {each.name.upper(): variable(each.name) for each in fields(Settings)}
    said = []
    for name in sorted(environment):
        if not name.upper().startswith(PREFIX) or name in known.values():
            continue
        # Without the beginning, which all have in common.
        near = get_close_matches(name.upper().removeprefix(PREFIX), list(known), n=1, cutoff=0.5)
        advice = f"Did you mean {known[near[0]]}?" if near else "python app.py --help lists the options."
        said.append(f"{name} in the environment is not used. Every option has a variable of its name. {advice}")
    return said


def option(name: str) -> str:
    """Return the command line option of a setting: ``data_dir`` is ``--data-dir``."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """Return the environment variable of a setting: ``data_dir`` is ``MEMLONG_DATA_DIR``."""
    return PREFIX + name.upper()


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line: options come out as text, and as None where they are not given."""
    made = _Parser(
        prog="python app.py",
        allow_abbrev=False,
        description="Ask a book, and see how the model's memory finds the answer.",
        epilog=f"Every option is also an environment variable: --data-dir is {variable('data_dir')}.",
    )
    hints = get_type_hints(Settings)
    for each in fields(Settings):
        words = f"{each.metadata['help']} [default: {_shown(each)}]".replace("%", "%%")
        if hints[each.name] is bool:
            made.add_argument(option(each.name), action=argparse.BooleanOptionalAction, default=None, help=words)
            continue
        made.add_argument(option(each.name), default=None, help=words, metavar=_metavar(each))
    return made


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message[:1].upper() + message[1:], "What python app.py --help lists", "Write it so")


def _parse(given_as: str, name: str, hint: Any, text: str) -> Any:
    if hint is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise ConfigError(f"{given_as}={text}", "true or false", "Set it to 1 or 0, or unset it")
        return text.lower() in _TRUE
    if hint is int:
        try:
            return int(text.replace("_", ""))
        except ValueError:
            advice = "Set it to a number such as 4096, or leave it out"
            raise ConfigError(f"{given_as}={text}", "A whole number", advice) from None
    if name == "data_dir":
        if not text.strip():  # else it would be the folder we are in
            raise ConfigError(f"{given_as} without a folder", "A folder that is there or can be made", "Name one")
        try:
            return Path(text).expanduser()
        except RuntimeError as error:
            raise ConfigError(f"{given_as}={text}", "A folder that is there or can be made", f"{error}") from None
    return text


def _is_folder(text: str) -> bool:
    try:
        return Path(text).expanduser().is_dir()
    except (RuntimeError, ValueError):  # the home of somebody who has none, a zero among the letters
        return False


def _require_between(each: Field[Any], value: int) -> None:
    most = each.metadata["most"]
    if value < 1:
        raise ConfigError(f"{each.name}={value}", "A whole number above zero", _advice(each))
    if most is not None and value > most:
        raise ConfigError(f"{each.name}={value:,}", f"A whole number from 1 to {most:,}", _advice(each))


def _shown(each: Field[Any]) -> str:
    return "none" if each.default in ("", None) else str(each.default)


def _metavar(each: Field[Any]) -> str | None:
    choices = each.metadata["choices"]
    return "{" + ",".join(choices) + "}" if choices else each.name.rpartition("_")[2].upper()


def _advice(each: Field[Any]) -> str:
    return f"Change {option(each.name)} or {variable(each.name)}"
