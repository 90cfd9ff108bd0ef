"""The address to listen on: free or refused, and never behind a proxy."""

from __future__ import annotations

import socket
from urllib.request import proxy_bypass_environment

import pytest

from app.network import past_proxies, require_free
from memlong.errors import MemLongError


def test_a_free_address_is_taken_and_a_taken_or_foreign_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        with pytest.raises(MemLongError, match=f"Nothing can listen on 127.0.0.1, port {port}"):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)
    require_free("127.0.0.1", 0)

    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror("Name or service not known")

    def no_name(host: str, *_: object, **__: object) -> None:
        host.encode("idna")  # as the system's function does first

    for lookup, host in ((unknown, "nowhere.invalid"), (no_name, "two..dots"), (no_name, "x" * 70)):
        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        with pytest.raises(MemLongError, match="--host"):
            require_free(host, 0)


def test_proxies_are_not_asked_for_this_machine_and_other_exceptions_stay() -> None:
    environment = {"NO_PROXY": "intranet,localhost", "HTTP_PROXY": "http://proxy"}
    past_proxies("0.0.0.0", environment)
    past_proxies("0.0.0.0", environment)
    assert environment["no_proxy"] == environment["NO_PROXY"] == "intranet,localhost,127.0.0.1,::1,0.0.0.0"
    assert environment["HTTP_PROXY"] == "http://proxy"
    bare: dict[str, str] = {}
    past_proxies("127.0.0.1", bare)
    assert bare["no_proxy"] == "localhost,127.0.0.1,::1"
    both = {"no_proxy": "intranet, localhost", "NO_PROXY": "lab.example"}
    past_proxies("127.0.0.1", both)
    assert both == {
        "no_proxy": "intranet,localhost,127.0.0.1,::1", "NO_PROXY": "lab.example,localhost,127.0.0.1,::1",
    }  # fmt: skip
    everything = {"NO_PROXY": "*"}
    past_proxies("127.0.0.1", everything)
    assert everything["no_proxy"] == everything["NO_PROXY"] == "*"
    assert proxy_bypass_environment("elsewhere.example", {"no": everything["no_proxy"]})
