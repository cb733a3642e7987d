"""The settings a PostgreSQL client begins with: what of its startup packet is its own, so that it can share servers.

Clients that differ in application_name, search_path or time zone use one pool; the relay establishes their settings on
whichever server they borrow. What such settings amount to (the server's own spelling of "utc", or its refusal) is for a
server to say: see dataplane/beginnings. A setting is a ParameterStatus message, whether the server reports it or not.
"""

from collections.abc import Iterable
from dataclasses import replace

from proxy.dataplane.family import Settings, Welcome
from proxy.pgsql._settings import SettingsDoor
from proxy.pgsql.gucs import settable
from proxy.pgsql.messages import fatal, parameter_status, parse_parameter_status
from proxy.sql._effects import EffectKind, effects, statements

_REPORTED = {
    b"application_name": b"application_name",
    b"client_encoding": b"client_encoding",
    b"datestyle": b"DateStyle",
    b"intervalstyle": b"IntervalStyle",
    b"timezone": b"TimeZone",
    b"standard_conforming_strings": b"standard_conforming_strings",
    b"default_transaction_read_only": b"default_transaction_read_only",
    b"search_path": b"search_path",
}  # fmt: skip
_NAME_LIMIT = 63  # NAMEDATALEN - 1: a longer application_name is cut by the server


def split(asked: Settings) -> tuple[Settings, Settings]:
    """(settings with which a server must log in, settings of the client's own)"""
    # in a set, the byte 1 marks a list (see sql/_effects): a value with it is nobody's honest one
    own = tuple(each for each in asked if settable(each[0]) and "\1" not in each[1])
    return tuple(each for each in asked if each not in own), own


def given(text: str) -> bytes:
    """Text of a startup packet as it came."""
    return text.encode("utf-8", "surrogateescape")


def _messages(settings: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(parameter_status(name, value) for name, value in sorted(settings))


def _reports(parameters: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(parameters):
        length = int.from_bytes(parameters[at + 1 : at + 5])
        name, value = parse_parameter_status(parameters[at + 5 : at + 1 + length])
        found[name] = value
        at += 1 + length
    return found


def of_init_query(text: str, parameters: bytes) -> tuple[dict[bytes, bytes], bool]:
    """(what it sets, it is understood as a whole). The server's own word for what it reports."""
    if not text.strip():
        return {}, True
    raw = text.encode()
    made: dict[bytes, bytes] = {}
    seen: set[int] = set()
    reports = _reports(parameters)
    for kind, number, name, value in effects(raw):
        if kind is not EffectKind.EFFECT_SET:
            return {}, False
        seen.add(number)
        key = name.encode("latin-1")
        made[key] = reports.get(_REPORTED.get(key, b""), value)
    whole = statements(raw) == len(seen)
    return (made, True) if whole else ({}, False)


def welcome(base: Welcome, settings: Settings, reported: dict[bytes, bytes]) -> Welcome:
    """`reported`: what a server said when it was given the settings."""
    reports = _reports(base.parameters)
    own = dict(_reports(base.settings))
    for name, text in settings:
        key = given(name)
        known = _REPORTED.get(key)
        if known in reports:
            value = reported.get(known, reports[known])
            if value == reports[known] and key not in own:
                continue  # as every server of the pool has it
            own[key] = value
        else:
            own[key] = given(text)
    reports |= {name: value for name, value in reported.items() if name in reports}
    parameters = _messages(reports.items())
    head = base.head[: len(base.head) - len(base.parameters)] + parameters
    return replace(base, head=head, parameters=parameters, settings=_messages(own.items()))


def known(base: Welcome, own: Settings) -> Welcome | None:
    """What a client with these settings is told, where no server need be asked."""
    if not all(_plain_name(*each) for each in own):
        return None
    return welcome(base, own, {given(name): given(value) for name, value in own})


class Trial:
    """A conversation in which a server is given the settings, as the relay would give them."""

    def __init__(self, base: Welcome, own: Settings) -> None:
        self._base, self._own = base, own
        self.request: bytes = SettingsDoor.replay({}, {given(name): given(value) for name, value in own}, True)[1]
        self._reported: dict[bytes, bytes] = {}
        self._refusal = b""
        self._buffer = b""

    def feed(self, data: bytes) -> Welcome | bytes | None:
        """What they amount to, or the server's refusal; at the end of the stream (b"") what there is of it."""
        if not data:
            return self._refusal or None
        buffer = self._buffer + data
        while len(buffer) >= 5 and len(buffer) > (length := int.from_bytes(buffer[1:5])):
            message, buffer = buffer[: length + 1], buffer[length + 1 :]
            match message[:1]:
                case b"S":
                    name, value = parse_parameter_status(message[5:])
                    self._reported[name] = value
                case b"E":
                    self._refusal = self._refusal or fatal(message)
                case b"Z":
                    return self._refusal or welcome(self._base, self._own, self._reported)
        self._buffer = buffer
        return None


def _plain_name(name: str, value: str) -> bool:
    """An application_name whose outcome is certain: printable ASCII (servers replace other bytes), and not too long."""
    return name == "application_name" and value.isascii() and value.isprintable() and len(value) <= _NAME_LIMIT
