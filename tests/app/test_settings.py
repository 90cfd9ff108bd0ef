"""Settings: defaults, environment, command line, and what is refused."""

from __future__ import annotations

import socket
import sys
import threading
from dataclasses import fields
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from urllib.request import ProxyHandler, build_opener

import pytest

from app.settings import Settings, from_command_line, from_environment, misspelt, parser, variable
from memlong.errors import ConfigError, MemLongError


def test_options_win_over_the_environment_and_it_over_the_defaults() -> None:
    environment = {"MEMLONG_PORT": "9000", "MEMLONG_CAPACITY": "4_096", "MEMLONG_DATA_DIR": "~/books"}
    settings = from_command_line(["--port", "9001", "--policy", "lru", "--share"], environment)
    assert (settings.port, settings.capacity, settings.policy, settings.share) == (9001, 4096, "lru", True)
    assert settings.data_dir == Path("~/books").expanduser()
    assert settings.host == "127.0.0.1"


def test_every_setting_is_an_option_with_help() -> None:
    text = parser().format_help()
    for each in fields(Settings):
        assert f"--{each.name.replace('_', '-')}" in text
        assert each.metadata["help"]


def test_hosted_spaces_are_reached_from_outside() -> None:
    assert from_environment({"SPACE_ID": "somebody/something"})["host"] == "0.0.0.0"
    assert from_environment({"SPACE_ID": "x", "MEMLONG_HOST": "127.0.0.2"})["host"] == "127.0.0.2"


@pytest.mark.parametrize(
    "environment",
    [
        {"MEMLONG_PORT": "many"},
        {"MEMLONG_PORT": "70000"},
        {"MEMLONG_SHARE": "maybe"},
        {"MEMLONG_POLICY": "random"},
        {"MEMLONG_SESSIONS": "0"},
        {"MEMLONG_DEVICE": "gpu"},
        {"MEMLONG_DEVICE": "cuda:x"},
        {"MEMLONG_SESSIONS": "99999999999"},
        {"MEMLONG_CLOSED_MINUTES": "99999999999999999999"},
        {"MEMLONG_ROOT_PATH": "memlong"},
        {"MEMLONG_ROOT_PATH": "https://some one/memlong"},
    ],
)
def test_wrong_values_are_refused_with_advice(environment: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        from_command_line([], environment)
    assert refused.value.allowed
    assert next(iter(environment)) in str(refused.value)


def test_a_variable_that_is_none_is_named_with_the_nearest_one() -> None:
    environment = {
        "MEMLONG_CAPACITY_TOKEN": "1",
        "memlong_prot": "1",
        "MEMLONG_XQZW": "",
        "MEMLONG_PORT": "1",
        "HOME": "",
    }
    said = misspelt(environment)
    assert [line.split()[0] for line in said] == ["MEMLONG_CAPACITY_TOKEN", "MEMLONG_XQZW", "memlong_prot"]
    assert "Did you mean MEMLONG_CAPACITY?" in said[0] and "Did you mean MEMLONG_PORT?" in said[2]
    assert "--help" in said[1]


@pytest.mark.parametrize("value", ["", "/memlong", "/a/b", "https://books.example.org", "http://x.org:80/memlong"])
def test_the_path_behind_a_proxy(value: str) -> None:
    assert Settings(root_path=value).root_path == value


def test_login_needs_both_parts() -> None:
    assert Settings(auth="anna:secret:1").credentials == ("anna", "secret:1")
    assert Settings().credentials is None
    with pytest.raises(ConfigError):
        Settings(auth="anna")


def test_quantised_weights_are_one_of_the_precisions() -> None:
    assert Settings(precision="4bit").quantization == "4bit"
    assert Settings(precision="4bit").dtype == "auto"
    assert (Settings(precision="float32").quantization, Settings(precision="float32").dtype) == (None, "float32")
    assert variable("data_dir") == "MEMLONG_DATA_DIR"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "abc"], "--port=abc. A whole number."),
        (["--port", "-1"], "0 (any that is free) to 65535"),
        (["--port"], "Argument --port: expected one argument. What python app.py --help lists."),
        (["--capacity", "2.5"], "--capacity=2.5. A whole number."),
        (["--policy", "fif"], "policy='fif'. One of: trigger_count"),
        (["--hots", "x"], "Did you mean '--host'?"),
        (["--pol", "lru"], "Unknown option '--pol'."),
        (["--host", ""], "host=''. A name or an address of this machine."),
        (["--data-dir", ""], "--data-dir without a folder."),
        (["--data-dir", "~nobody-of-this-name/x"], "--data-dir=~nobody-of-this-name/x. A folder"),
    ],
)
def test_a_wrong_option_is_refused_in_three_parts(arguments: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        from_command_line(arguments, {})
    assert said in str(refused.value) and refused.value.allowed and refused.value.do


@pytest.fixture
def launcher() -> ModuleType:
    """The file ``app.py``, whose name the package has."""
    import app as package

    spec = spec_from_file_location("launcher", Path(package.__file__).parents[1] / "app.py")
    assert spec is not None and spec.loader is not None
    launcher = module_from_spec(spec)
    spec.loader.exec_module(launcher)
    return launcher


def test_an_mcp_server_without_its_package_is_refused(launcher: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    with pytest.raises(MemLongError, match="without the package mcp"):
        launcher.launch(Settings(mcp=True))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (Settings(memory="preset=foo"), "Unknown preset 'foo'"),
        (Settings(memory="chunk_tokens=0"), "chunk_tokens=0"),
        (Settings(data_dir=Path(__file__) / "x"), "MEMLONG_DATA_DIR"),
        (Settings(data_dir=Path(__file__)), "A folder that is there or can be made"),
        (Settings(model="/no/such/model"), "There is no folder '/no/such/model'. A folder, a hub id or 'bundled'."),
        (Settings(model="./none"), "Change --model or MEMLONG_MODEL."),
        (Settings(model="~nobody-of-this-name/model"), "There is no folder '~nobody"),
        (Settings(retriever="sentence:../none"), "Change --retriever or MEMLONG_RETRIEVER."),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_built(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, settings: Settings, said: str
) -> None:
    monkeypatch.setitem(sys.modules, "app.build", None)
    with pytest.raises(MemLongError) as refused:
        launcher.launch(settings)
    assert said in str(refused.value)


def test_a_device_that_is_not_here_is_refused_before_the_page_is_up(launcher: ModuleType) -> None:
    with pytest.raises(MemLongError, match="No device 'cuda:99' on this machine"):
        launcher.launch(Settings(port=_free_port(), device="cuda:99"))


@pytest.mark.parametrize("model", ["nobody/nothing", "nothing", "bundled"])
def test_a_hub_id_is_not_looked_for_among_the_folders(model: str) -> None:
    Settings(model=model, retriever=f"sentence:{model}").require_folders()


def test_the_page_comes_up_behind_a_proxy_and_however_slow_the_machine(
    launcher: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradio looks at its own page: through a proxy it sees nothing, and three seconds are short while weights load."""
    import gradio

    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(gradio.networking, "url_ok", lambda url: False)
    settings = Settings(port=_free_port(), model=str(tmp_path), retriever="hashing")
    try:
        address = launcher.launch(settings, wait=False)
        assert build_opener(ProxyHandler({})).open(address).status == 200
        assert capsys.readouterr().out == f"Open {address} in a browser. Ctrl-C ends the app.\n"
        with pytest.raises(MemLongError, match="Nothing can listen on 127"):
            launcher.launch(settings, wait=False)
    finally:
        gradio.close_all()
        for (
            thread
        ) in threading.enumerate():  # which imports what the next test does: torch's relatives take one at a time
            if thread.name == "load-model":
                thread.join()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
