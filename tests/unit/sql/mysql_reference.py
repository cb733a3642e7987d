"""MySQL's lexical rules a second time: regular expressions over a whole text, after sql_lex.cc, not after `_lex_mysql`.

`reference()` gives the mask of texts in which nothing but XA START, `@x :=`, INTO @x, GET_LOCK(…) and HANDLER … OPEN
can pin: enough to tell whether two scanners see the same bytes as words, strings and comments. Comments that are SQL
are read where every server reads them alike; `None` for texts in which they are not.
"""

import re
from collections.abc import Iterator

from proxy.reasons import PinReason
from proxy.sql._lex import EMPTY, MULTIPLE, Dialect

_BLANK = re.compile(rb"[ \t\n\r\f\v]+")
_LINE = re.compile(rb"(?:#|--(?=[\x00-\x20\x7f]|\Z))([^\n]*)")
_COMMENT = re.compile(rb"/\*.*?\*/", re.DOTALL)
_SQL = re.compile(rb"/\*(M?)!([0-9]*)")
_FLOAT = re.compile(rb"[0-9]+\.[0-9]*(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|(?<=\.)[0-9]+(?:[eE][+-]?[0-9]+)?")
_WORD = re.compile(rb"[A-Za-z0-9_$\x80-\xff]+")
_VARIABLE = re.compile(rb"@(?!@)(?:[A-Za-z0-9_$.\x80-\xff]*)")
_QUOTED = {  # what is inside, and the quote that ends it
    (b"'", True): re.compile(rb"(?:[^'\\]|\\.|'')*+'", re.DOTALL),
    (b'"', True): re.compile(rb'(?:[^"\\]|\\.|"")*+"', re.DOTALL),
    (b"'", False): re.compile(rb"(?:[^']|'')*+'"),
    (b'"', False): re.compile(rb'(?:[^"]|"")*+"'),
    (b"`", False): re.compile(rb"(?:[^`]|``)*+`"),
}
Token = tuple[str, bytes, int, int]


class TwoReadings(Exception):
    """Servers read this differently, or it may be so."""


def tokens(text: bytes, escapes: bool, ansi: bool) -> Iterator[Token]:
    """(kind, text, start, end) of each token; the last is "unterminated" where the server raises that error."""
    at, inside = 0, False
    while at < len(text):
        start = at
        if found := _BLANK.match(text, at):
            at = found.end()
        elif found := _LINE.match(text, at):
            if b"\0" in found[1]:
                raise TwoReadings
            at = found.end()
        elif found := _SQL.match(text, at):
            digits = found[2]
            if inside or found[1] or (digits and (len(digits) != 5 or digits >= b"50700")):
                raise TwoReadings
            at, inside = found.end(), True
        elif text.startswith(b"/*+", at):
            raise TwoReadings
        elif text.startswith(b"/*", at):
            found = _COMMENT.match(text, at)
            if not found:
                yield "unterminated", text[start:], start, len(text)
                return
            at = found.end()
        elif inside and text.startswith(b"*/", at):
            at, inside = at + 2, False
        elif text[at : at + 1] in (b"'", b'"', b"`"):
            quote = text[at : at + 1]
            is_name = quote == b"`" or (quote == b'"' and ansi)
            found = _QUOTED[quote, escapes and not is_name].match(text, at + 1)
            if not found:
                yield "unterminated", text[start:], start, len(text)
                return
            if is_name and b"\0" in found[0]:
                raise TwoReadings
            at = found.end()
            kind = "name" if quote != b"'" else "string"
            yield kind, found[0][:-1].replace(quote * 2, quote), start, at
        elif found := _VARIABLE.match(text, at):
            at = found.end()
            yield "variable", found[0], start, at
        elif text.startswith(b"@@", at):
            at += 2
            yield "system", b"@@", start, at
        elif (found := _FLOAT.match(text, at)) or (found := _WORD.match(text, at)):
            at = found.end()
            yield "word", found[0], start, at
        elif text.startswith(b":=", at):
            at += 2
            yield "self", b":=", start, at
        elif text[at] == 0:
            raise TwoReadings
        else:
            at += 1
            yield "self", text[start:at], start, at
    if inside:
        yield "unterminated", b"", at, at


def reference(text: bytes, escapes: bool, dialect: int) -> int | None:
    mask, statements, initial, head, before = EMPTY, 0, True, b"", (b"", b"")
    try:
        for kind, found, _, _ in tokens(text, escapes, dialect == Dialect.MYSQL_ANSI):
            if (kind, found) == ("self", b";"):
                statements += not initial
                initial, head, before = True, b"", (b"", b"")
                continue
            mask &= ~EMPTY
            if kind == "unterminated":
                mask |= 1 << PinReason.PIN_UNREADABLE
                break
            if initial and statements:
                mask |= MULTIPLE
            word = found.lower() if kind in ("word", "name") else b""  # bytes: ASCII only
            if found in (b":=", b":") and kind == "self":
                mask |= 1 << (PinReason.PIN_USER_VARIABLE if found == b":=" else PinReason.PIN_DO_BLOCK)
            if before == (b"word", b"into") and kind == "variable":
                mask |= 1 << PinReason.PIN_USER_VARIABLE
            if before[1] == b"get_lock" and (kind, found) == ("self", b"("):
                mask |= 1 << PinReason.PIN_ADVISORY_LOCK
            if head == b"xa" and kind == "word" and word == b"start":
                mask |= 1 << PinReason.PIN_XA
            if head == b"handler" and kind == "word" and word == b"open":
                mask |= 1 << PinReason.PIN_CURSOR
            before = (kind.encode(), word)
            if head != b"handler":
                head = b""
            if initial and not (kind == "self" and found in b"()"):
                initial, head = False, word if kind == "word" else b""
    except TwoReadings:
        return None
    return mask
