"""Free TCP ports on loopback, below the kernel's ephemeral range: no outgoing connection can take one meanwhile."""

import random
import socket

_LOW, _HIGH = 20_000, 30_000
_given: set[int] = set()


def free_port() -> int:
    """A port nobody listens on, never given twice by this process."""
    for port in random.sample(range(_LOW, _HIGH), 200):
        if port in _given:
            continue
        try:
            for host in ("127.0.0.1", "0.0.0.0"):
                with socket.socket() as s:
                    s.bind((host, port))
        except OSError:
            continue
        _given.add(port)
        return port
    raise RuntimeError(f"no free port between {_LOW} and {_HIGH}")
