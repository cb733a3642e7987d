"""DeafListener: a port that accepts a TCP connection (the kernel does) and never reads or answers."""

import socket
from typing import Self


class DeafListener:
    """`with DeafListener() as deaf:` connect to deaf.host, deaf.port: no byte will ever come back.

    With `backlog_full=True` not even the TCP handshake finishes, as behind a firewall that drops.
    """

    def __init__(self, *, backlog_full: bool = False) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0 if backlog_full else 128)
        self.host, self.port = self._listener.getsockname()[:2]
        self._fillers: list[socket.socket] = []
        if backlog_full:
            # a backlog of 0 takes one connection; further SYNs are dropped, so fill it and one more
            for _ in range(3):
                s = socket.socket()
                s.setblocking(False)
                s.connect_ex((self.host, self.port))
                self._fillers.append(s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for s in self._fillers:
            s.close()
        self._listener.close()
