"""The statements of a psql script, as psql would send them.

A statement ends at its `;`, at `\\g` and its like, or with the file. Other backslash commands and the data behind
COPY … FROM stdin are no SQL and are left out. An included file (`\\i`) is not read, nor is a psql variable replaced.
"""

import re
from collections import Counter
from collections.abc import Iterator

from proxy.admin.source import LONGEST, Found, Source
from proxy.sql._effects import EffectKind, effects
from proxy.sql._lex import Dialect
from proxy.sql._tokens import tokens
from proxy.sql.split import END, ORDINARY, SEMICOLON, UNREADABLE, Reading

_PIECE = 65_536
_BATCH = 512  # tokens that are read at once, at most; behind a command few: the next may follow soon
_FEW = 8
_BACKSLASH = 0x5C
_COMMAND = re.compile(rb"\\([A-Za-z_!?]+)")
_SENDS = frozenset(b"g gx gset gexec gdesc crosstabview watch gsend sendpipeline".split())
_COPIES = re.compile(rb"\\copy\b.*\bfrom\s+p?stdin\b", re.IGNORECASE)
_INCLUDES = frozenset(b"i ir include include_relative".split())
_TO_THE_BEGINNING = frozenset({EffectKind.EFFECT_RESET_ALL, EffectKind.EFFECT_DISCARD_ALL})
_TOUCHES = (b"set", b"reset", b"discard")
_SET_CONFIG = re.compile(rb"\bset_config\b", re.IGNORECASE)
# client encodings with bytes below 0x80 inside of characters (PostgreSQL manual, table 24.3, and src/common/encnames.c)
_MISREAD = frozenset(
    b"sjis mskanji shiftjis win932 windows932 shiftjis2004 big5 win950 windows950 gbk win936 windows936 uhc win949"
    b" windows949 gb18030 johab".split()
)
_OFF = frozenset(b"off of false fals fal fa f no n 0".split())

COMMANDS, DATA, INCLUDED = "psql commands", "lines of COPY data", "included files"


class Script:
    """Iterate once. `skipped` counts what is no SQL; `problem` says why the rest of the script was not read."""

    def __init__(self, source: Source, longest: int = LONGEST) -> None:
        self.skipped: Counter[str] = Counter()
        self.problem = ""
        self.std_strings = True
        self._source = source
        self._longest = longest
        self._text = source.read(_PIECE)
        self._ended = False
        self._line = 1  # of the place `_counted` in the text
        self._counted = 0
        self._reading = Reading()
        self._begin = 0  # of the statement being read, with what is in front of it
        self._at = 0  # where the next token is looked for
        self._inner: set[int] = set()  # places of the `;` that `\\;` has in the statement
        self._holes: list[tuple[int, int]] = []  # what of the text is no SQL: read as blanks

    def __iter__(self) -> Iterator[Found]:
        batch = _FEW
        while not self.problem:
            reading = self._reading
            for kind, start, stop in tokens(self._text, self._at, Dialect.POSTGRESQL, self.std_strings, batch):
                if reading.plain and kind in ORDINARY:
                    reading.stop = stop
                    continue
                if kind in (END, UNREADABLE):
                    if not self._ended:
                        self._more()
                        break
                    if kind == UNREADABLE:
                        reading.take(kind, self._text, self._skip_blanks(start), stop)
                    yield from self._statement(len(self._text))
                    return
                self._at = stop
                if self._text[start] == _BACKSLASH:
                    if (sent := self._command(start)) is None:
                        self._more()
                    elif sent:
                        yield from self._statement(self._at)
                    batch = _FEW
                    break
                if kind == SEMICOLON and start in self._inner:
                    kind = END  # a token like others, which ends nothing
                if reading.take(kind, self._text, start, stop):
                    before = self._text, self.std_strings
                    yield from self._statement(stop)
                    if self.problem or (self._text, self.std_strings) != before:
                        batch = _FEW
                        break
                    reading = self._reading
            else:
                self._at = stop
                batch = min(batch * 2, _BATCH)

    def _skip_blanks(self, at: int) -> int:
        return len(self._text) - len(self._text[at:].lstrip())

    def _number(self, at: int) -> int:
        """The line of a place that is not in front of the last one asked for."""
        self._line += self._text.count(b"\n", self._counted, at)
        self._counted = at
        return self._line

    def _more(self) -> None:
        """Read on; the statement that has begun is read again from its begin, since its last token may go on."""
        self._fill()
        rest = self._text[self._begin :]
        if len(rest) > self._longest:
            start = self._skip_blanks(self._begin) if self._reading.start < 0 else self._reading.start
            self.problem = f"line {self._number(start)}: longer than {self._longest} bytes: not read from here on"
            return
        self._number(self._begin)
        more = self._source.read(max(_PIECE, len(rest)))
        self._ended = not more
        self._text = rest + more
        self._inner = {place - self._begin for place in self._inner}
        self._counted = self._begin = self._at = 0
        self._reading = Reading()

    def _statement(self, stop: int) -> Iterator[Found]:
        """The statement that ends here, if there is one; what follows begins at `stop`."""
        done = self._reading
        self._reading = Reading()
        self._fill()
        if done.start >= 0:
            text = self._text[done.start : done.stop]
            yield Found(self._number(done.start), text)
            self._follow(done, text)
        self._begin = self._at = stop
        self._inner.clear()
        if done.copies:
            self._data()

    def _fill(self) -> None:
        """Blanks for the holes: not one by one, which would copy the text as often."""
        if self._holes:
            text = bytearray(self._text)
            for start, stop in self._holes:
                text[start:stop] = b" " * (stop - start)
            self._text = bytes(text)
            self._holes.clear()

    def _follow(self, done: Reading, text: bytes) -> None:
        """How texts are read may change behind it."""
        if not done.head or (done.head[0] not in _TOUCHES and not _SET_CONFIG.search(text)):
            return
        for kind, _, name, value in effects(text, self.std_strings):
            ours = name == "standard_conforming_strings"
            if kind == EffectKind.EFFECT_SET and ours:
                self.std_strings = value.lower() not in _OFF
            elif kind == EffectKind.EFFECT_SET and name == "client_encoding":
                self._encoding(value)
            elif kind in _TO_THE_BEGINNING or (kind == EffectKind.EFFECT_RESET and ours):
                self.std_strings = True

    def _encoding(self, name: bytes) -> None:
        if re.sub(rb"[^a-z0-9]", b"", name.lower()) in _MISREAD:
            told = name.decode("ascii", "replace")
            self.problem = f"line {self._line}: client_encoding is {told}: not read from here on"

    def _command(self, start: int) -> bool | None:
        """At a backslash: whether it sends the statement in front of it; None if its line has not been read yet."""
        text = self._text
        stop = text.find(b"\n", start)
        if stop < 0 and not self._ended:
            return None
        stop = len(text) if stop < 0 else stop
        if text[start + 1 : start + 2] in (b";", b":"):  # for the server, not for psql
            self._holes.append((start, start + 1))
            self._at = start + 1
            self._inner.add(start + 1)
            return False
        line = text[start:stop]
        names = [name.lower() for name in _COMMAND.findall(line)]
        self.skipped[COMMANDS] += 1
        self._at = stop
        if not _SENDS.isdisjoint(names):
            return True
        if not _INCLUDES.isdisjoint(names[:1]):
            self.skipped[INCLUDED] += 1
        if names[:1] in ([b"r"], [b"reset"]):
            self._reading = Reading()
        if names[:1] == [b"encoding"]:
            self._number(start)
            self._encoding(line.removeprefix(b"\\encoding").strip(b" \t\r'\""))
        if self._reading.start < 0:
            self._begin = stop
        else:
            self._holes.append((start, stop))
        if _COPIES.match(line):
            self._data()
        return False

    def _data(self) -> None:
        """Leave out what follows on the next lines, up to `\\.`; the rest of this line comes behind it."""
        line = self._text.find(b"\n", self._at)
        if line < 0:
            line = len(self._text)
            if not self._ended:
                more = next(iter(self._source.lines()), None)
                self._text += (more[1] if more else b"") + b"\n"
                line = len(self._text) - 1
        self._fill()
        kept = self._text[self._begin : line]
        number = begin = self._number(self._begin)
        follows = number + kept.count(b"\n") + 1
        self._source.give_back(self._text[line + 1 :])
        for number, data, _ in self._source.lines(follows):
            follows = number + 1
            if data == b"\\.":
                break
            self.skipped[DATA] += 1
        if self._reading.start >= 0:  # it goes on behind the data, whose lines count
            kept += b"\n" * (follows - begin - kept.count(b"\n") - 1)
        self._text = kept + b"\n"
        self._ended = False
        self._line = follows - 1 - kept.count(b"\n")
        self._counted = 0
        shift = self._begin
        self._inner = {place - shift for place in self._inner}
        self._begin, self._at = 0, self._at - shift
        self._reading.start -= shift if self._reading.start >= 0 else 0
        self._reading.stop -= shift if self._reading.stop >= 0 else 0
