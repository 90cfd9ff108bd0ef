"""The address that the app listens on: free or refused in words, and reached past any proxy."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from memlong.errors import MemLongError


def require_free(host: str, port: int) -> None:
    """Refuse an address that nothing can listen on now; the server would wait for it for ever.

    Raises:
        MemLongError: for a host that is not this machine's, or a port that is taken.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            if os.name != "nt":  # there it would share the port
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a server that has just ended
            tried.bind(address)
    except (OSError, UnicodeError) as error:  # the latter for a name of two dots in a row, or too long for one
        raise cannot_listen(host, port) from error


def cannot_listen(host: str, port: int) -> MemLongError:
    """Return the refusal of an address."""
    given = f"Nothing can listen on {host}, port {port}"
    return MemLongError(given, "A free port of this machine", "Choose another --port, or --host")


def past_proxies(host: str, environment: MutableMapping[str, str]) -> None:
    """Have requests of this machine to itself go there: the server asks its own page whether it is up.

    Some programs read the one variable and some the other, so each keeps what it says; one that is empty says the same
    as its twin.
    """
    given = {name: environment.get(name, "").strip() for name in ("no_proxy", "NO_PROXY")}
    for name, own in given.items():
        others = own or "".join(given.values())
        if others == "*":  # nothing goes through a proxy; in a list some programs take the star for a name
            environment[name] = others
            continue
        all_of_them = [*(other.strip() for other in others.split(",")), "localhost", "127.0.0.1", "::1", host]
        environment[name] = ",".join(filter(None, dict.fromkeys(all_of_them)))
