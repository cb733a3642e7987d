"""How a cold conversation (startup, authentication) talks to whoever drives it. Knows no socket, no loop and no clock.

A conversation is a generator. What it yields is to be sent; what it is then given are the next bytes of the peer:

    received = yield to_send          # b"" means: nothing to send, only wait

At end of stream the driver sends b"" in, and the conversation ends as `PeerClosed`. A `StartTls` asks the driver to
answer, to do the handshake, to note its facts on the `Line`, and to resume with b""; from then on bytes are decrypted.
A refusal leaves as a `ProxyError`. What was read but not needed stays in `line.data` for whoever comes next: the next
conversation, or the relay.
"""

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias, TypeVar

_R = TypeVar("_R")


class PeerClosed(Exception):
    """End of stream where more was expected. Nobody is left to be told."""


class Hangup(Exception):
    """Close without a word: the peer speaks something in which we could not answer."""


@dataclass(slots=True)
class StartTls:
    """Send `answer`, do the handshake. `direct`: what is in the line, if anything, is its beginning, not an attack."""

    answer: bytes
    direct: bool = False


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """What a client says instead of logging in: cancel what the client `pid` has asked for."""

    pid: int
    key: bytes = field(repr=False)


class Encryption(Enum):
    """What one attempt to log in to a server does about TLS; the modes with a second attempt are the connector's."""

    NONE = "none"
    OFFER = "offer"  # ask; go on without TLS if it says no
    DEMAND = "demand"  # ask; it must say yes
    DIRECT = "direct"  # ClientHello as the first bytes


class TlsRefused(Exception):
    """TLS was demanded, and the server does not have it."""


class UnsupportedMethod(Exception):
    """The server asks for an authentication we do not speak."""


Exchange: TypeAlias = Generator[bytes | StartTls, bytes, _R]


class Stream:
    """One peer: bytes received and not yet read, bytes to go out with the next write, and the facts of its TLS
    session. How its messages are framed is for the engine family's own `Line` to say.
    """

    __slots__ = ("alpn", "binding", "data", "encrypted", "pending")

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.pending = b""
        # set by the driver after a handshake
        self.encrypted = False
        self.binding: bytes | None = None  # hash of the server's certificate, for SCRAM's tls-server-end-point
        self.alpn: str | None = None

    def feed(self, chunk: bytes) -> None:
        if not chunk:
            raise PeerClosed
        self.data = self.data + chunk if self.data else chunk

    def flush(self) -> bytes:
        pending, self.pending = self.pending, b""
        return pending

    def take(self) -> bytes:
        """Everything unread, which from now on belongs to the caller."""
        data, self.data = self.data, b""
        return data
