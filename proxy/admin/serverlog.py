"""The statements of a PostgreSQL server log: stderr format behind any log_line_prefix, csvlog, or jsonlog.

What log_statement and log_min_duration_statement write is read: `statement: …`, `execute <name>: …`, the same behind
`duration: … ms`. Parse and bind are left out, since their execute follows; so is the STATEMENT of an error. The words
are those of lc_messages = C.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from enum import Enum

import orjson

from proxy.admin.source import LONGEST, Found, Source

_WORDS = rb"DEBUG\d?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|CONTEXT|STATEMENT|QUERY|LOCATION|BACKTRACE"
_SEVERITY = re.compile(rb"(?:^|[^A-Za-z])(" + _WORDS + rb"):  ")
_PREFIX = 4096  # bytes in which it has to begin
_STATEMENT = rb"(?:duration: [0-9.]+ ms  )?(?:statement|execute [^:\n]*): ?"
_MESSAGE = re.compile(_STATEMENT)
_LOGGED = re.compile(rb"LOG:  " + _STATEMENT)
_CSV = re.compile(rb"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [^,\n]*,(?:[^\n]*,){10}", re.MULTILINE)
_CSV_SEVERITY, _CSV_MESSAGE = 11, 13  # columns
_LOOKED_AT = 200  # lines

ENTRIES, BROKEN = "other log entries", "lines that are no log entry"


class Format(Enum):
    SCRIPT = "psql script"
    STDERR = "server log"
    CSV = "csvlog"
    JSON = "jsonlog"


def detect(head: bytes) -> Format:
    """By its first bytes. Whatever does not look like a log is a script."""
    lines = [line for line in head.split(b"\n")[:_LOOKED_AT] if line.strip() and not line.startswith(b"\t")]
    if any(line.startswith(b'{"timestamp":"') and b'"error_severity":' in line for line in lines[:2]):
        return Format.JSON
    if _CSV.search(head):
        return Format.CSV
    entries = sum(1 for line in lines if _SEVERITY.search(line, 0, _PREFIX))
    return Format.STDERR if entries and entries * 2 >= len(lines) else Format.SCRIPT


class ServerLog:
    """Iterate once. `skipped` counts what is no statement; `problem` says why the rest of the log was not read."""

    def __init__(self, source: Source, kind: Format, longest: int = LONGEST) -> None:
        self.skipped: Counter[str] = Counter()
        self.problem = ""
        self._source = source
        self._kind = kind
        self._longest = longest

    def __iter__(self) -> Iterator[Found]:
        if self._kind is Format.CSV:
            return self._csv()
        return self._json() if self._kind is Format.JSON else self._stderr()

    def _message(self, line: int, severity: bytes, message: bytes) -> Iterator[Found]:
        found = _MESSAGE.match(message) if severity == b"LOG" else None
        if found:
            yield Found(line, message[found.end() :])
        else:
            self.skipped[ENTRIES] += 1

    def _stderr(self) -> Iterator[Found]:
        entry: list[bytes] = []  # the statement being read, in lines
        first, size, whole = 0, 0, True
        for number, text, complete in self._source.lines():
            if text.startswith(b"\t"):
                if entry and size + len(text) <= self._longest:
                    entry.append(text[1:])
                    size += len(text)
                    whole = whole and complete
                else:
                    whole = False
                continue
            if entry:
                yield Found(first, b"\n".join(entry), whole)
                entry = []
            found = _LOGGED.search(text, 0, _PREFIX)
            if found and text.find(b":  ", 0, found.start()) < 0:
                severity = None  # there is no other in front of it: the short way for most lines
            else:
                severity = _SEVERITY.search(text, 0, _PREFIX)
                found = _MESSAGE.match(text, severity.end()) if severity and severity[1] == b"LOG" else None
            if found:
                entry = [text[found.end() :]]
                first, size, whole = number, len(text), complete
            elif text:
                self.skipped[ENTRIES if severity else BROKEN] += 1
        if entry:
            yield Found(first, b"\n".join(entry), whole)

    def _json(self) -> Iterator[Found]:
        for number, text, _ in self._source.lines():
            entry = _object(text)
            message = entry.get("message") if entry else None
            if isinstance(message, str):
                severity = str(entry.get("error_severity")).encode()
                yield from self._message(number, severity, message.encode("utf-8", "surrogatepass"))
            elif text:
                self.skipped[BROKEN] += 1

    def _csv(self) -> Iterator[Found]:
        csv.field_size_limit(self._longest)
        last, cut = 0, False

        def lines() -> Iterator[str]:
            nonlocal last, cut
            for number, text, whole in self._source.lines():
                last, cut = number, cut or not whole
                yield text.decode("utf-8", "surrogateescape") + "\n"

        rows = csv.reader(lines())
        while not self.problem:
            first = last + 1
            try:
                row = next(rows, None)
            except csv.Error as error:
                self.problem = f"line {first}: {error}: not read from here on"
                return
            if row is None:
                return
            if cut:
                self.problem = f"line {first}: longer than {self._longest} bytes: not read from here on"
            elif len(row) > _CSV_MESSAGE:
                severity, message = row[_CSV_SEVERITY], row[_CSV_MESSAGE]
                encoded = message.encode("utf-8", "surrogateescape")
                yield from self._message(first, severity.encode("utf-8", "replace"), encoded)
            elif row:
                self.skipped[BROKEN] += 1


def _object(line: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(line.decode("utf-8", "replace"))
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
