"""What the fuzzers start from: malformed inputs of the corpus, findings of earlier runs, a sample of every message."""

from functools import cache
from pathlib import Path

from tests.harness import messages as m

CORPUS = Path(__file__).resolve().parents[1] / "corpus"
FINDINGS = CORPUS / "fuzz"


@cache
def files(folder: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted((CORPUS / folder).glob("*.bin")))


def findings(target: str) -> list[Path]:
    return sorted((FINDINGS / target).glob("*.bin"))


@cache
def conversations() -> tuple[bytes, ...]:
    """What clients say after their login."""
    one = m.parse("select 1") + m.bind() + m.execute() + m.sync()
    named = (
        m.parse("select $1::int", "s1", (23,)) + m.describe("S", "s1") + m.bind("5", statement="s1") + m.describe("P")
    )
    return (
        m.query("select 1") + m.terminate(),
        m.query("begin; insert into t values ('it''s', $$a$$) /* c */ -- d\n; commit") + m.query(""),
        one,
        one * 5 + m.terminate(),
        named + m.execute(limit=1) + m.flush() + m.execute() + m.close("P") + m.close("S", "s1") + m.sync(),
        m.query("copy t from stdin") + m.copy_data(b"1\n") * 3 + m.copy_done(),
        m.query("copy t from stdin") + m.copy_data(b"1\n") + m.copy_fail("no"),
        m.parse("copy t from stdin")
        + m.bind()
        + m.execute()
        + m.sync()
        + m.copy_data(b"x\n")
        + m.copy_done()
        + m.sync(),
        m.message("F", b"\0\0\0\1\0\0\0\0\0\0") + m.query("select 2"),
        m.bind(b"\0\xff" * 40, None, "x", statement="none", portal="c", formats=(1,)) + m.execute("c") + m.sync(),
        m.query("set search_path = a, b; listen c; drop database d") + m.query("deallocate all"),
        m.query("select '" + "x" * 40000 + "'") + m.sync(),
        m.parse("select '" + "y" * 70000 + "'", "big") + m.sync(),
    )


@cache
def answers() -> tuple[bytes, ...]:
    """What servers say after their login."""
    notice = m.notice("so") + m.parameter_status("TimeZone", "UTC") + m.notification(7, "c", "p")
    return (
        m.answer("1"),
        m.answer(*map(str, range(50))) + m.answer(),
        m.message("1") + m.message("2") + m.message("n") + m.complete("BEGIN") + m.ready("T"),
        m.message("1") + m.message("t", b"\0\1\0\0\0\x17") + m.row_description("a") + m.message("2") + m.row("5")
        + m.message("s") + m.row("6") + m.complete() + m.message("3") + m.ready(),
        m.error("22P02") + m.ready("E"),
        m.error("57P01", severity="FATAL"),
        m.message("G", b"\0\0\1\0\0") + m.complete("COPY 3") + m.ready(),
        m.message("H", b"\0\0\1\0\0") + m.copy_data(b"1\n") * 9 + m.copy_done() + m.complete("COPY 9") + m.ready(),
        m.message("V", b"\xff\xff\xff\xff") + m.ready() + m.message("I") + m.ready(),
        notice + m.answer("1") + notice + m.ready(),
        m.message("E", b"S" + b"x" * 300 + b"\0VFATAL\0C57P01\0Mlong\0\0") + m.notice("y" * 400),
        m.row("z" * 9000) * 3 + m.complete() + m.ready(),
    )  # fmt: skip
