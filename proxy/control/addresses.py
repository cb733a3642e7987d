"""Addresses as the configuration writes them: `host:port`, `[v6]:port`, `/directory:port`.

Targets and listeners share the syntax. A Unix socket is named as libpq does it, by its directory and the port:
`/run/sluiceway:5432` is the socket `/run/sluiceway/.s.PGSQL.5432`. Nothing is resolved or opened here; what is wrong is
said in a ValueError that tells the operator what to write.
"""

import ipaddress
import re
from dataclasses import dataclass

HIGHEST_PORT = 65535
LONGEST_SOCKET_PATH = 107  # sockaddr_un.sun_path, with its terminating NUL
_LONGEST_NAME = 253
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_DIGITS_AND_DOTS = re.compile(r"[0-9.]+")


@dataclass(frozen=True, slots=True)
class Address:
    host: str  # name, IPv4, IPv6 (no brackets), or the directory of a Unix socket
    port: int

    @property
    def is_unix(self) -> bool:
        return self.host.startswith("/")

    @property
    def socket_path(self) -> str:
        return f"{self.host.rstrip('/')}/.s.PGSQL.{self.port}"

    @property
    def is_wildcard(self) -> bool:
        return self.host in {"0.0.0.0", "::"}

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """The address in `text`; ValueError says what to write instead."""
    if "://" in text:
        raise ValueError("give only host and port, not a URL: for example db.example.com:5432")
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not rest.startswith(":"):
            raise ValueError("write an IPv6 address in brackets and the port behind them: [::1]:5432")
        return Address(_ipv6(host), _port(rest[1:]))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"the port is missing; write {text or 'host'}:PORT, for example {text or 'host'}:5432")
    if not host:
        raise ValueError(
            f"the host is missing: 127.0.0.1:{port} for this machine only, 0.0.0.0:{port} for every interface"
        )
    if host.startswith("/"):
        return _unix(host, _port(port))
    if ":" in host:
        raise ValueError(f"write an IPv6 address in brackets: [{host}]:{port}")
    return Address(_host(host), _port(port))


def _port(text: str) -> int:
    # isascii: int() also takes digits of other scripts, and underscores
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= HIGHEST_PORT:
        raise ValueError(f"the port must be a number from 1 to {HIGHEST_PORT}")
    return int(text)


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IPv6 address") from None


def _host(text: str) -> str:
    if text == "*":
        raise ValueError("write 0.0.0.0 (every IPv4 interface) or [::] (every IPv6 interface) instead of *")
    if _DIGITS_AND_DOTS.fullmatch(text):
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv4 address") from None
    if len(text) > _LONGEST_NAME or not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} is not a host name")
    return text.lower()


def _unix(directory: str, port: int) -> Address:
    address = Address(directory.rstrip("/") or "/", port)
    if len(address.socket_path.encode()) > LONGEST_SOCKET_PATH or "\0" in directory:
        raise ValueError(f"the path of a Unix socket may have {LONGEST_SOCKET_PATH} bytes; choose a shorter directory")
    return address
