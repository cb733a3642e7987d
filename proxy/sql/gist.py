"""The first words of a statement and the names it calls: what `_rules` has no reason to keep, for explanations."""

from dataclasses import dataclass

from proxy.sql._lex import Dialect
from proxy.sql._tokens import Kind, tokens

_WORD, _NAME, _OPEN = int(Kind.K_WORD), int(Kind.K_NAME), int(Kind.K_OPEN)
_END, _UNREADABLE = int(Kind.K_END), int(Kind.K_UNREADABLE)


@dataclass(frozen=True, slots=True)
class Gist:
    first: bytes  # word, folded; b"" if it is none
    second: bytes
    calls: frozenset[bytes]  # names in front of a parenthesis, without their schema
    temporary: bool  # the word TEMP or TEMPORARY stands somewhere


def gist(statement: bytes, *, std_strings: bool = True) -> Gist:
    """Of one statement of PostgreSQL's, up to where it can be read."""
    head: list[bytes] = []
    calls: set[bytes] = set()
    temporary = False
    name = b""
    for kind, start, stop in tokens(statement, 0, Dialect.POSTGRESQL, std_strings):
        if kind == _OPEN:
            if name and statement[start] == 0x28:  # (
                calls.add(name)
            name = b""
            continue
        if kind == _WORD:
            name = statement[start:stop].lower()
            temporary = temporary or name in (b"temp", b"temporary")
        elif kind == _NAME:
            name = statement[statement.index(b'"', start) + 1 : stop - 1]
        else:
            name = b""
        if len(head) < 2 and kind not in (_END, _UNREADABLE):
            head.append(name if kind == _WORD else b"")
    head += [b"", b""]
    return Gist(head[0], head[1], frozenset(calls), temporary)
