"""The findings of a lint, as lines for people and as data for scripts."""

from collections.abc import Iterator
from typing import Any

from proxy.admin.lint import File, Group, Lint
from proxy.admin.printable import printable
from proxy.sql.explain import why
from proxy.sql.rds import RdsReason

SHOWN = 20  # groups of a section
_WIDTH = 160  # of a digest that people read


def lines(found: Lint, limit: int = SHOWN) -> Iterator[str]:
    """`limit`: how many groups a section shows; 0: all."""
    for file in found.files:
        yield from _file(file)
    for title, groups in found.sections():
        if groups:
            yield from ("", f"{title[:1].upper()}{title[1:]}:")
        for group in groups[: limit or len(groups)]:
            yield from _group(group)
        if limit and len(groups) > limit:
            yield f"  … and {_count(len(groups) - limit, 'more digest')}: --limit 0 shows them"
    if found.ungrouped:
        yield from ("", f"{_count(found.ungrouped, 'statement')} of more digests than can be kept: counted, not shown")
    yield from ("", summary(found))


def summary(found: Lint) -> str:
    parts = [
        _count(found.statements, "statement"),
        f"{found.pins} pin here",
        f"{found.rds} would pin RDS Proxy" + (f" and {found.unclear} more may" if found.unclear else ""),
    ]
    if found.problems:
        parts.append(f"not everything was read: {_count(found.problems, 'problem')}")
    return ", ".join(parts)


def _file(file: File) -> Iterator[str]:
    skipped = "".join(f"; {_number(count)} {what} skipped" for what, count in file.skipped.items())
    yield f"{printable(file.name)}: {file.kind.value}, {_count(file.statements, 'statement')}{skipped}"
    for problem in file.problems[:10]:
        yield f"  {printable(problem)}"
    if len(file.problems) > 10:
        yield f"  … and {_number(len(file.problems) - 10)} more"


def _group(group: Group) -> Iterator[str]:
    verdict = group.verdict
    digest = printable(verdict.digest)
    if len(digest) > _WIDTH:
        digest = digest[: _WIDTH - 1] + "…"
    yield f"  {_number(group.count):>9} ×  {printable(group.file)}:{group.line}  {digest}"
    here = [f"pins: {_reason(reason.name)}: {why(reason)}" for reason in verdict.pins]
    if verdict.followed:
        here.append("followed: " + ", ".join(map(printable, verdict.followed)))
    here += [note.value for note in verdict.notes]
    there = [f"pins: {reason.value}" for reason in verdict.rds]
    there += [f"may pin: {reason.value}" for reason in verdict.unclear]
    if verdict.misled:
        there.append("does not pin for currval() or lastval(), which may answer for another session")
    yield from _column("here", here or ["nothing of it stays in the session"])
    yield from _column("RDS Proxy", there or ["does not pin"])


def _column(name: str, said: list[str]) -> Iterator[str]:
    for number, line in enumerate(said):
        yield f"{'':15}{'' if number else name + ':':11}{line}"


def _reason(name: str) -> str:
    return name.removeprefix("PIN_").lower()


def _number(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _count(number: int, noun: str) -> str:
    return f"{_number(number)} {noun}" if number == 1 else f"{_number(number)} {noun}s"


# ---------------------------------------------------------------- for scripts


def data(found: Lint, limit: int = 0) -> dict[str, Any]:
    sections = {
        name: [_data(group) for group in groups[: limit or len(groups)]]
        for name, (_, groups) in zip(("pinned", "rds_only", "unclear"), found.sections(), strict=True)
    }
    return {
        "statements": found.statements,
        "pin": found.pins,
        "rds_proxy_pin": found.rds,
        "rds_proxy_unclear": found.unclear,
        "ungrouped": found.ungrouped,
        "files": [
            {
                "name": file.name,
                "format": file.kind.name.lower(),
                "statements": file.statements,
                "skipped": dict(file.skipped),
                "problems": file.problems,
            }
            for file in found.files
        ],
        **sections,
    }


def _data(group: Group) -> dict[str, Any]:
    verdict = group.verdict

    def rds(reasons: tuple[RdsReason, ...]) -> list[dict[str, str]]:
        return [{"reason": reason.name.lower(), "text": reason.value} for reason in reasons]

    return {
        "digest": printable(verdict.digest),
        "count": group.count,
        "file": group.file,
        "line": group.line,
        "pins": [{"reason": _reason(reason.name), "text": why(reason)} for reason in verdict.pins],
        "followed": list(verdict.followed),
        "notes": [{"note": note.name.lower(), "text": note.value} for note in verdict.notes],
        "rds_proxy": {"pins": rds(verdict.rds), "unclear": rds(verdict.unclear), "misled": verdict.misled},
    }
