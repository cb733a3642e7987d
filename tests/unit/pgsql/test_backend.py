"""proxy.pgsql._backend: a server's messages, their framing, and what is read in them on the way through."""

import struct

import pytest

from proxy._wire import Step
from proxy.pgsql._backend import BackendDoor, BackendFault
from proxy.pgsql._owed import OwedKind as K
from tests.harness import messages as m
from tests.harness.delivery import check, play

QUERY, SYNC = K.OWED_QUERY, K.OWED_SYNC
BATCH = (K.OWED_PARSE, K.OWED_BIND, K.OWED_DESCRIBE, K.OWED_EXECUTE, K.OWED_SYNC)


def owing(*requests: int) -> BackendDoor:
    door = BackendDoor()
    for request in requests:
        door.request(request)
    return door


def complete(tag: str = "SELECT 1") -> bytes:
    return m.complete(tag)


@pytest.mark.parametrize(
    ("requests", "answer"),
    [
        ((QUERY,), m.answer("1", "2", "3")),
        ((QUERY,), m.message("I") + m.ready("T")),
        ((QUERY,), m.error("22012") + m.ready("E")),
        (
            (QUERY,),
            m.notice("hm") + m.parameter_status("a", "b") + m.notification(1, "c", "d") + complete() + m.ready(),
        ),
        (BATCH, m.message("1") + m.message("2") + m.row_description("a") + m.row("1") + complete() + m.ready()),
        (BATCH, m.message("1") + m.message("2") + m.message("n") + m.message("s") + m.ready("T")),
        ((K.OWED_PARSE, K.OWED_DESCRIBE, SYNC), m.message("1") + m.message("t", b"\0\0") + m.message("n") + m.ready()),
        ((K.OWED_CLOSE, SYNC), m.message("3") + m.ready()),
        ((K.OWED_FUNCTION,), m.message("V", struct.pack("!i", -1)) + m.ready()),
        (
            (QUERY,),
            m.message("H", b"\0\0\0") + m.copy_data(b"a\n") * 3 + m.message("c") + complete("COPY 3") + m.ready(),
        ),
        ((QUERY, K.OWED_COPY_END), m.message("G", b"\0\0\0") + complete("COPY 0") + m.ready()),
        ((QUERY,), m.message("W", b"\0\0\0") + m.copy_data(b"w")),
    ],
)
def test_every_answer_in_all_cuts(requests: tuple[int, ...], answer: bytes) -> None:
    runs = check(lambda: owing(*requests), answer)
    assert sum(run.n for run in runs) == len(answer)
    assert {run.step for run in runs} == {Step.FORWARD}


def test_rows_pass_as_one_run_and_the_run_stops_at_another_kind() -> None:
    rows = b"".join(m.row(str(i)) for i in range(1000))
    steps = owing(QUERY).feed(m.row_description("a") + rows + complete() + m.ready())
    assert [(n, kind) for _, n, kind, *_ in steps][1] == (len(rows), "D")
    assert [step[2] for step in steps] == ["T", "D", "C", "Z"]


def test_a_run_of_rows_stops_at_a_bad_length() -> None:
    for length in (0, 3, 0x40000003, 0xFFFFFFFF):
        door = owing(QUERY)
        steps = door.feed(m.row("1") * 3 + b"D" + struct.pack("!I", length) + b"xxxxxxx")
        assert [(step[1], step[2]) for step in steps[:1]] == [(3 * len(m.row("1")), "D")]
        assert door.fault == BackendFault.BE_BAD_LENGTH, hex(length)


def test_a_run_of_rows_ends_where_a_row_is_not_whole() -> None:
    row = m.row("x" * 100)
    door = owing(QUERY)
    steps = door.feed(row * 2 + row[:50])
    assert [(n, begins, ends) for _, n, _, begins, ends in steps] == [(2 * len(row), True, True), (50, True, False)]
    assert [(n, begins, ends) for _, n, _, begins, ends in door.feed(row[50:] + row)] == [
        (len(row) - 50, False, True), (len(row), True, True),
    ]  # fmt: skip


def test_ec30_a_huge_row_passes_in_pieces_and_nothing_is_kept() -> None:
    row = m.row("x" * 1_000_000)
    door = owing(QUERY)
    runs = play(door, [row[i : i + 5000] for i in range(0, len(row), 5000)])
    assert [run[:3] for run in runs] == [(Step.FORWARD, "D", len(row))]
    assert door.kept == 0


@pytest.mark.parametrize("status", "ITE")
def test_ec2_the_status_byte_is_read(status: str) -> None:
    for pieces in ([m.ready(status)], [m.ready(status)[:5], m.ready(status)[5:]]):
        door = owing(QUERY)
        play(door, pieces)
        assert door.tx_status == status
        assert door.owed == []


def test_ec2_an_unknown_status_is_a_violation() -> None:
    for status in "ixR\0":
        door = owing(QUERY)
        door.feed(m.ready(status))
        assert door.fault == BackendFault.BE_BAD_STATUS


def test_what_somebody_must_read_is_shown_whole() -> None:
    for raw in (m.ready("T"), m.notification(7, "c", "payload"), m.parameter_status("TimeZone", "UTC")):
        for at in range(1, len(raw)):
            door = owing(QUERY)
            assert door.feed(raw[:at]) == [], f"{raw!r} shown after {at} bytes"
            (step,) = door.feed(raw[at:])
            assert step[1] == len(raw)


def test_errors_are_read_and_pass_in_any_cut() -> None:
    raw = m.error("57P01", "terminating connection", "FATAL")
    for at in range(1, len(raw)):
        door = owing(QUERY)
        play(door, [raw[:at], raw[at:]])
        assert (door.sqlstate, door.fatal) == ("57P01", True)


def test_the_head_of_a_huge_error_is_enough() -> None:
    raw = m.error("22P02", "x" * 100_000)
    door = owing(QUERY)
    steps = door.feed(raw[:300])
    assert steps[0][1] == 300
    assert (door.sqlstate, door.fatal) == ("22P02", False)


@pytest.mark.parametrize("severity", ["FATAL", "PANIC"])
def test_a_translated_severity_is_still_fatal(severity: str) -> None:
    door = owing()
    door.feed(m.message("E", b"SFATALE\0V" + severity.encode() + b"\0C57P01\0Mx\0\0"))
    assert door.fatal


@pytest.mark.parametrize(
    "body", [b"\0", b"", b"SERROR", b"SERROR\0\0", b"C\0\0", b"CX\0\0", b"\0\0\0", b"Mx\0SERROR\0\0"]
)
def test_ec64_an_error_without_a_sqlstate_is_survived(body: bytes) -> None:
    door = owing(QUERY)
    runs = play(door, [m.message("E", body) + m.ready()])
    assert [run.kind for run in runs] == ["E", "Z"]
    assert (door.sqlstate, door.fatal) == ("", False)


def test_ec64_a_notice_is_never_taken_for_an_error() -> None:
    door = owing(*BATCH)
    door.feed(m.message("N", b"SFATAL\0VFATAL\0C57P01\0Mnot really\0\0"))
    assert (door.sqlstate, door.fatal) == ("", False)
    assert len(door.owed) == len(BATCH)


def test_ec17_what_we_asked_is_swallowed_in_all_cuts() -> None:
    def make() -> BackendDoor:
        return owing(QUERY | K.OWED_SWALLOW, QUERY)

    ours, theirs = m.answer("1"), m.answer("2")
    runs = check(make, ours + theirs)
    assert sum(run.n for run in runs if run.step == Step.SWALLOW) == len(ours)
    assert sum(run.n for run in runs if run.step == Step.FORWARD) == len(theirs)


# ---------------------------------------------------------------- refused

EVERY = set("DCZT213ntsIENSAdcGHWV")


def test_unknown_types_are_refused() -> None:
    for byte in set(range(256)) - {ord(k) for k in EVERY}:
        door = owing(QUERY)
        door.feed(bytes([byte]))
        assert door.fault == BackendFault.BE_UNKNOWN_TYPE, byte


@pytest.mark.parametrize("kind", sorted(EVERY))
def test_ec65_impossible_lengths_are_refused(kind: str) -> None:
    for length in (0, 3, 0x40000003, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFB):
        door = owing(QUERY)
        door.feed(kind.encode() + struct.pack("!I", length) + b"xxxx")
        assert door.fault == BackendFault.BE_BAD_LENGTH, f"{kind} {length:#x}"


def test_a_row_as_large_as_postgresql_can_build_is_no_violation() -> None:
    door = owing(QUERY)
    assert door.feed(b"D" + struct.pack("!I", 0x40000002) + b"x")
    assert not door.fault


def test_reports_larger_than_any_server_sends_are_refused() -> None:
    for kind in "AS":
        door = owing()
        door.feed(kind.encode() + struct.pack("!I", 100_000))
        assert door.fault == BackendFault.BE_BAD_LENGTH


def test_answers_nobody_asked_for_are_refused() -> None:
    door = owing()
    door.feed(m.answer("1"))
    assert door.fault == BackendFault.BE_UNEXPECTED
    door = owing(QUERY)
    runs = check(lambda: owing(QUERY), m.answer("1") + m.ready(), violation=True)
    assert [run.kind for run in runs] == ["T", "D", "C", "Z"]
