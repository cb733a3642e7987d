"""Where the statements of a text begin and end, as psql and the server find them.

A `;` inside of parentheses (CREATE RULE) ends no statement, nor does one in the body of a function that is written as
SQL (CREATE FUNCTION … BEGIN ATOMIC …; END). Everything else about bytes is `_tokens`'.
"""

from dataclasses import dataclass

from proxy.sql._lex import Dialect
from proxy.sql._tokens import Kind, tokens

# plain numbers, as `tokens` gives them: a script has millions
END, UNREADABLE, SEMICOLON = int(Kind.K_END), int(Kind.K_UNREADABLE), int(Kind.K_SEMICOLON)
WORD, OPEN, CLOSE = int(Kind.K_WORD), int(Kind.K_OPEN), int(Kind.K_CLOSE)
# of no account in a statement that is plain
ORDINARY = frozenset(map(int, (Kind.K_WORD, Kind.K_NAME, Kind.K_LITERAL, Kind.K_PARAMETER, Kind.K_COMMA, Kind.K_SIGN)))
_HEAD = 4  # words: CREATE OR REPLACE FUNCTION


class Reading:
    """The statement being read: fed with tokens, says which `;` ends it."""

    __slots__ = ("_before", "_bodies", "_depth", "copies", "head", "plain", "routine", "start", "stop")

    def __init__(self) -> None:
        self.start = -1  # of its first token; -1: it has none yet
        self.stop = -1
        self.head: list[bytes] = []  # its first words, folded
        self.routine = False
        self.plain = False  # no further word matters, only parentheses and `;`
        self.copies = False  # COPY … FROM STDIN: data follows
        self._depth = 0
        self._bodies = 0
        self._before = b""

    def take(self, kind: int, text: bytes, start: int, stop: int) -> bool:
        """True if this token is the `;` behind the statement, which may be an empty one."""
        if kind == SEMICOLON and not self._depth and not self._bodies:
            return True
        if self.start < 0:
            self.start = start
        self.stop = stop
        if kind == WORD:
            self._word(text[start:stop].lower() if stop - start <= 16 else b"")  # none of ours is longer
        elif kind == OPEN:
            self._depth += text[start] == 0x28  # ( but not [
        elif kind == CLOSE and self._depth:
            self._depth -= text[start] == 0x29
        return False

    def _word(self, word: bytes) -> None:
        head = self.head
        if len(head) < _HEAD:
            head.append(word)
            kind = head[3:] if head[1:3] == [b"or", b"replace"] else head[1:2]
            self.routine = head[0] == b"create" and kind in ([b"function"], [b"procedure"])
            self.plain = head[0] not in (b"create", b"copy") or (
                len(head) == _HEAD and head[0] == b"create" and not self.routine
            )
        if self.routine and not self._depth:
            if word == b"begin" or (word == b"case" and self._bodies):
                self._bodies += 1
            elif word == b"end" and self._bodies:
                self._bodies -= 1
        elif head[0] == b"copy" and not self._depth:
            self.copies = self.copies or (word == b"stdin" and self._before == b"from")
            self._before = word


@dataclass(frozen=True, slots=True)
class Piece:
    """A statement's place in its text: from its first token to behind its last, the `;` not included."""

    start: int
    stop: int


def split(text: bytes, *, std_strings: bool = True, dialect: Dialect = Dialect.POSTGRESQL) -> list[Piece]:
    """The statements of a text, empty ones left out. What cannot be read is a part of the last."""
    pieces: list[Piece] = []
    reading = Reading()
    for kind, start, stop in tokens(text, 0, dialect, std_strings):
        if kind == UNREADABLE:
            start += len(text) - start - len(text[start:].lstrip())
            reading.take(kind, text, start, len(text))
        elif kind != END and not reading.take(kind, text, start, stop):
            continue
        if reading.start >= 0:
            pieces.append(Piece(reading.start, reading.stop))
        reading = Reading()
    return pieces
