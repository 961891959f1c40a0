"""Where a server listens: the address, whether it is this machine's own, and what it is called in a browser."""

from __future__ import annotations

import ipaddress
import socket

from whet.errors import ServerError

LOCAL = ("localhost", "127.0.0.1", "::1")


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def take(host: str, port: int) -> socket.socket:
    """Return a socket at the address. Raises ServerError where it cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ServerError(
            f"{host}:{port}: cannot listen there ({reason}). Name another --port (0: any free one) or --host."
        ) from None


def url_of(taken: socket.socket) -> str:
    """Return the address as a browser takes it."""
    host, port = taken.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
