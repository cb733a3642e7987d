"""Digests a second time, from the tokens of the second scanners: what a text's digest is, but for blanks and lists.

`reference()` leaves out all blanks, and reads no IN, ARRAY, VALUES and SET; None where servers read a text in two ways.
"""

import re

from proxy.sql._lex import Dialect
from tests.unit.sql import lex_reference, mysql_reference

_MYSQL_NUMBER = re.compile(rb"[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|0[xb][A-Za-z0-9_$\x80-\xff]*|\.[0-9]+")
_INTRODUCER = re.compile(rb"_[A-Za-z0-9_$\x80-\xff]*|[nNxXbB]")
_LITERAL, _SIGN = b"$", (b"+", b"-")

Piece = tuple[bytes, bool]  # text, whether a literal


def _postgresql(text: bytes, std_strings: bool) -> list[Piece]:
    found: list[Piece] = []
    for kind, token in lex_reference.tokens(text, std_strings):
        if kind == "unterminated":
            return [*found, (b"...", False)]
        if kind in ("string", "number"):
            found.append((_LITERAL, True))
        else:
            found.append((token.lower() if kind == "word" else token, False))
    return found


def _mysql(text: bytes, escapes: bool, dialect: int) -> list[Piece]:
    found: list[Piece] = []
    end_of_word = -1
    for kind, _, start, end in mysql_reference.tokens(text, escapes, dialect == Dialect.MYSQL_ANSI):
        raw = text[start:end]
        if kind == "unterminated":
            # an introducer in front of it is a part of it
            if end_of_word == start and raw[:1] in _quotes(dialect) and _INTRODUCER.fullmatch(found[-1][0]):
                found.pop()
            return [*found, (b"...", False)]
        if kind in ("string", "name") and raw[:1] in _quotes(dialect):
            if end_of_word == start and _INTRODUCER.fullmatch(found[-1][0]):
                found.pop()
            found.append((_LITERAL, True))
        elif (kind == "word" and _MYSQL_NUMBER.fullmatch(raw)) or (kind, raw) == ("self", b"?"):
            found.append((_LITERAL, True))
        elif kind in ("word", "variable"):
            found.append((raw.lower(), False))
            end_of_word = end if kind == "word" else -1
        else:
            found.append((raw, False))
    return found


def _quotes(dialect: int) -> tuple[bytes, ...]:
    return (b"'",) if dialect == Dialect.MYSQL_ANSI else (b"'", b'"')


def reference(text: bytes, dialect: int, std_strings: bool) -> bytes | None:
    try:
        pieces = _postgresql(text, std_strings) if dialect == 0 else _mysql(text, not std_strings, dialect)
    except mysql_reference.TwoReadings:
        return None
    written, number = b"", 0
    for at, (piece, literal) in enumerate(pieces):
        if literal:
            number += 1
            written += b"$%d" % number
            continue
        before = pieces[at - 1][0] if at else b""
        sign = piece in _SIGN and before in (b"(", b"[", b",") and at + 1 < len(pieces) and pieces[at + 1][1]
        if not sign:
            written += piece
    return re.sub(rb"[ \t\n\r\f\v]", b"", written)
