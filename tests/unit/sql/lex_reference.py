"""PostgreSQL's lexical rules a second time: regular expressions over a whole text, after scan.l and not after `_lex`.

`reference()` gives the mask of texts in which nothing but LISTEN, LOAD, DISCARD, the sequence functions and pg_temp
means anything: enough to tell whether two scanners see the same bytes as words, strings and comments.
"""

import re
from collections.abc import Iterator

from proxy.reasons import PinReason
from proxy.sql._lex import EFFECTS, EMPTY, ENDS

_SPACE = rb" \t\n\r\f\v"
_BLANK = re.compile(rb"[" + _SPACE + rb"]+|--[^\n\r]*")
_CONTINUE = re.compile(rb"(?:[ \t\f\v]|--[^\n\r]*)*+[\n\r](?:[" + _SPACE + rb"]|--[^\n\r]*[\n\r])*+'")
_WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*")
_TAG = re.compile(rb"\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?\$")
_NUMBER = re.compile(rb"\$[0-9]+|[0-9]+(?:\.(?!\.)[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_STRING = re.compile(rb"[eEbBxX]?'|[uU]&'")
_NAME = re.compile(rb'(?:[uU]&)?"')
_BODY = {  # what is inside of a string, up to the quote that may end it
    "plain": re.compile(rb"(?:[^']|'')*+'"),
    "escapes": re.compile(rb"(?:[^'\\]|\\.|'')*+'", re.DOTALL),
    "bits": re.compile(rb"[^']*+'"),
}
_NAME_BODY = re.compile(rb'((?:[^"]|"")*+)"')
_FIRST = {b"listen": 1 << PinReason.PIN_LISTEN, b"load": 1 << PinReason.PIN_LOAD, b"discard": EFFECTS | ENDS}
_SEQUENCE = {b"nextval", b"setval", b"currval", b"lastval"}

Token = tuple[str, bytes]


def _comment(text: bytes, at: int) -> int:
    depth = 0
    while True:
        if text.startswith(b"/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith(b"*/", at):
            depth, at = depth - 1, at + 2
            if depth == 0:
                return at
        elif at < len(text):
            at += 1
        else:
            return -1


def _string(text: bytes, at: int, rule: str) -> int:
    """The end of the string whose inside begins at `at`, all its continuations included."""
    while True:
        inside = _BODY[rule].match(text, at)
        if inside is None:
            return -1
        more = _CONTINUE.match(text, inside.end())
        if more is None:
            return inside.end()
        at = more.end()


def tokens(text: bytes, std_strings: bool) -> Iterator[Token]:
    """(kind, text) of each token; the last is ("unterminated", …) where scan.l raises that error."""
    at = 0
    while at < len(text):
        start = at
        if found := _BLANK.match(text, at):
            at = found.end()
            continue
        if text.startswith(b"/*", at):
            at = _comment(text, at)
            if at >= 0:
                continue
            kind = "comment"
        elif found := _STRING.match(text, at):
            prefix = found[0][:1].lower()
            rule = {b"e": "escapes", b"b": "bits", b"x": "bits", b"u": "plain"}.get(prefix)
            at = _string(text, found.end(), rule or ("plain" if std_strings else "escapes"))
            kind = "string"
        elif found := _NAME.match(text, at):
            inside = _NAME_BODY.match(text, found.end())
            at = inside.end() if inside else -1
            kind = "name"
        elif found := _WORD.match(text, at):
            at, kind = found.end(), "word"
        elif found := _TAG.match(text, at):
            close = text.find(found[0], found.end())
            at = close + len(found[0]) if close >= 0 else -1
            kind = "string"
        elif found := _NUMBER.match(text, at):
            at, kind = found.end(), "number"
        else:
            at, kind = at + 1, "self"
        if at < 0:
            yield "unterminated", text[start:]
            return
        yield kind, text[start:at]


def reference(text: bytes, std_strings: bool) -> int:
    mask, depth, initial, pending = EMPTY, 0, True, False
    for kind, found in tokens(text, std_strings):
        if kind == "self" and found == b";" and depth == 0:
            initial, pending = True, False
            continue
        mask &= ~EMPTY
        if kind == "unterminated":
            mask |= 1 << PinReason.PIN_UNREADABLE
            break
        meaning = found
        if kind == "word":
            meaning = found.lower()  # bytes: ASCII only
        elif kind == "name":
            if found[:1] in b"uU" and b"\\" in found:
                mask |= 1 << PinReason.PIN_UNREADABLE
            meaning = found[found.index(b'"') + 1 : -1].replace(b'""', b'"')
        if pending and found == b"(":
            mask |= 1 << PinReason.PIN_SEQUENCE
        pending = kind in ("word", "name") and meaning in _SEQUENCE
        if kind in ("word", "name") and re.fullmatch(rb"pg_temp(_[0-9]+)?", meaning):
            mask |= 1 << PinReason.PIN_TEMPORARY_OBJECT
        if initial and kind == "word" and meaning in _FIRST:
            mask |= _FIRST[meaning]
        depth = max(0, depth + {b"(": 1, b")": -1}.get(found, 0))
        initial = initial and found in (b"(", b")")
    return mask
