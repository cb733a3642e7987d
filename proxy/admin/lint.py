"""What in scripts and logs would pin, here and in RDS Proxy, grouped by digest.

A statement is what a client sends at once: psql one by one, an application perhaps several with `;` between them.
Scripts and logs pass through in pieces; kept is only what there is to say of a digest, for so many of them at most.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from proxy.admin.script import Script
from proxy.admin.serverlog import Format, ServerLog, detect
from proxy.admin.source import LONGEST, Found, Source
from proxy.reasons import PinReason
from proxy.sql._lex import TRANSACTION_END, TRANSACTION_START, scan
from proxy.sql.explain import Note, explain
from proxy.sql.rds import RdsReason, rds

MOST_GROUPS = 20_000
_CACHED = 2048  # bytes of a text that is worth remembering
_BORING = ~(TRANSACTION_START | TRANSACTION_END)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class Verdict(NamedTuple):
    digest: bytes
    pins: tuple[PinReason, ...]
    followed: tuple[str, ...]  # settings that change, and so do not pin
    notes: tuple[Note, ...]
    rds: tuple[RdsReason, ...]
    unclear: tuple[RdsReason, ...]  # to RDS Proxy
    misled: bool  # RDS Proxy may answer for another session


@dataclass(slots=True)
class Group:
    verdict: Verdict
    file: str
    line: int  # of the first
    count: int = 0


@dataclass(slots=True)
class File:
    name: str
    kind: Format
    statements: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)  # what was not read, and so may pin


class NoTextError(ValueError):
    """The file is none that can be read."""


class Lint:
    """Give it files; then ask."""

    def __init__(self, progress: Callable[[str, int, int], None] | None = None) -> None:
        self.files: list[File] = []
        self.groups: dict[Verdict, Group] = {}
        self.statements = 0
        self.pins = 0
        self.rds = 0
        self.unclear = 0
        self.ungrouped = 0  # statements of digests that were too many
        self._progress = progress  # told file, bytes and statements now and then

    @property
    def problems(self) -> int:
        return sum(len(file.problems) for file in self.files)

    def read(self, stream: BinaryIO, name: str, kind: Format | None = None, longest: int = LONGEST) -> File:
        source = Source(stream, longest)
        if source.head.startswith(_UTF16):
            raise NoTextError(f"{name} is UTF-16; convert it to UTF-8 first")
        chosen = kind or detect(source.head)
        file = File(name, chosen)
        self.files.append(file)
        reader = Script(source, longest) if chosen is Format.SCRIPT else ServerLog(source, chosen, longest)
        for found in reader:
            std_strings = reader.std_strings if isinstance(reader, Script) else True
            self._take(file, found, std_strings)
            if self._progress and file.statements % 1000 == 0:
                self._progress(name, source.bytes, file.statements)
        file.skipped = reader.skipped
        if reader.problem:
            file.problems.append(reader.problem)
        return file

    def _take(self, file: File, found: Found, std_strings: bool) -> None:
        file.statements += 1
        self.statements += 1
        if not found.whole:
            file.problems.append(f"line {found.line}: too long: not read")
            return
        verdict = _remembered(found.text, std_strings) if len(found.text) <= _CACHED else judge(found.text, std_strings)
        if verdict is None:
            return
        self.pins += bool(verdict.pins)
        self.rds += bool(verdict.rds)
        self.unclear += bool(verdict.unclear) and not verdict.rds
        group = self.groups.get(verdict)
        if group is None:
            if len(self.groups) >= MOST_GROUPS:
                self.ungrouped += 1
                return
            group = self.groups[verdict] = Group(verdict, file.name, found.line)
        group.count += 1

    def sections(self) -> Iterator[tuple[str, list[Group]]]:
        """What pins here, what pins RDS Proxy only, and what may: each group once, the most frequent first."""
        groups = sorted(self.groups.values(), key=lambda group: -group.count)
        yield "pins here", [g for g in groups if g.verdict.pins]
        yield "would pin RDS Proxy, does not pin here", [g for g in groups if not g.verdict.pins and g.verdict.rds]
        yield (
            "may pin RDS Proxy (its documentation does not say), does not pin here",
            [g for g in groups if not g.verdict.pins and not g.verdict.rds],
        )


def judge(text: bytes, std_strings: bool = True) -> Verdict | None:
    """None if there is nothing to say."""
    mask, _ = scan(text, std_strings)
    verdict = rds(text, std_strings=std_strings, mask=mask)
    silent = not (verdict.pins or verdict.unclear or verdict.misled)
    if silent and not mask & _BORING & 0xFFFFFFFF:
        return None
    found = explain(text, std_strings=std_strings)
    pins = tuple(pin.reason for pin in found.pins)
    if silent and not pins:
        return None
    said = {note for one in found.statements for note in one.notes} - {Note.TRANSACTION_START, Note.TRANSACTION_END}
    notes = tuple(note for note in Note if note in said or note in found.notes)
    return Verdict(found.digest, pins, found.tracked, notes, verdict.pins, verdict.unclear, verdict.misled)


_remembered = lru_cache(4096)(judge)
