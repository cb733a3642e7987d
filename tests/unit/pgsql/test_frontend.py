"""proxy.pgsql._frontend: where a client's messages begin and end, what they touch, and which bytes are no message."""

import struct

import pytest

from proxy._wire import Step
from proxy.pgsql._frontend import FrontendDoor, FrontendFault
from proxy.reasons import PinReason
from proxy.sql._lex import EFFECTS, ENDS, TRANSACTION_END
from tests.harness import messages as m
from tests.harness.delivery import check, play

LARGE = 0x3FFFFFFE  # PostgreSQL's PQ_LARGE_MESSAGE_LIMIT
SMALL = 10000  # its PQ_SMALL_MESSAGE_LIMIT
EVERY = {
    "B": m.bind("1", None, statement="s", portal="p", formats=(0, 1), results=1),
    "C": m.close("S", "s"),
    "D": m.describe("P", "p"),
    "E": m.execute("p", 10),
    "F": m.message("F", struct.pack("!IhhH", 1598, 0, 0, 0)),
    "H": m.flush(),
    "P": m.parse("select $1", "", (23,)),
    "Q": m.query("select 1"),
    "S": m.sync(),
    "X": m.terminate(),
    "c": m.copy_done(),
    "d": m.copy_data(b"1\t2\n"),
    "f": m.copy_fail("no"),
}


def pins(touches: int) -> set[int]:
    """The reasons to pin, and what else the text is known to do."""
    found: set[int] = {reason for reason in PinReason if reason.name != "PIN_REASON_COUNT" and touches >> reason & 1}
    return found | {bit for bit in (EFFECTS, ENDS, TRANSACTION_END) if touches & bit}


@pytest.mark.parametrize("kind", EVERY)
def test_every_message_of_the_manual(kind: str) -> None:
    raw = EVERY[kind]
    (run,) = check(FrontendDoor, raw)
    assert run[:3] == (Step.FORWARD, kind, len(raw))
    steps = FrontendDoor().feed(raw)
    assert [(step[3], step[4]) for step in steps] == [(True, True)]


def test_a_conversation_in_all_cuts() -> None:
    data = b"".join(EVERY.values())
    assert [(run.kind, run.n) for run in check(FrontendDoor, data)] == [(k, len(raw)) for k, raw in EVERY.items()]


def test_ec18_several_syncs_and_batches_in_one_packet() -> None:
    data = m.parse("select 1") + m.bind() + m.execute() + m.sync() * 3 + m.query("select 2")
    assert "".join(run.kind for run in check(FrontendDoor, data)) == "PBESSSQ"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (m.query("select 1"), set()),
        (m.query("set work_mem = '1MB'"), {EFFECTS}),
        (m.query("deallocate a"), {EFFECTS, ENDS}),
        (m.query("select 1; listen x"), {PinReason.PIN_LISTEN}),
        (m.query("prepare a as select 1"), {PinReason.PIN_PREPARED_SQL}),
        (m.parse("select 1", "s1"), {PinReason.PIN_PREPARED_PROTOCOL}),
        (m.parse("select 1", ""), set()),
        (m.parse("set work_mem = '1MB'", ""), {EFFECTS}),
        (m.parse("commit", ""), {TRANSACTION_END}),
        (m.parse("listen x", "s1"), {PinReason.PIN_LISTEN, PinReason.PIN_PREPARED_PROTOCOL}),
        (m.copy_data(b"set work_mem = '1MB'\0"), set()),
        (m.bind("listen x"), set()),
    ],
)
def test_what_a_text_touches_is_the_same_in_every_cut(raw: bytes, expected: set[int]) -> None:
    (run,) = check(FrontendDoor, raw)
    assert pins(run.facts[0]) == expected


def test_touches_belong_to_one_message_only() -> None:
    runs = check(
        FrontendDoor, m.query("listen x") + m.query("select 1") + m.parse("select 1", "s") + m.parse("select 1")
    )
    assert [pins(run.facts[0]) for run in runs] == [
        {PinReason.PIN_LISTEN}, set(), {PinReason.PIN_PREPARED_PROTOCOL}, set(),
    ]  # fmt: skip


def test_text_behind_the_nul_is_not_read() -> None:
    """The server refuses the whole message; nothing of it may count as SQL here."""
    (run,) = check(FrontendDoor, m.message("Q", b"select 1\0listen x\0"))
    assert pins(run.facts[0]) == set()


def test_ec30_messages_larger_than_any_buffer_pass_in_pieces() -> None:
    raw = m.query("select '" + "x" * 300_000 + "'; listen y")
    door = FrontendDoor()
    piece = 4096
    runs = play(door, [raw[i : i + piece] for i in range(0, len(raw), piece)])
    assert [run[:3] for run in runs] == [(Step.FORWARD, "Q", len(raw))]
    assert pins(runs[0].facts[0]) == {PinReason.PIN_LISTEN}
    assert door.kept == 0, "no piece is kept back"


def test_ec30_long_names_pass_up_to_a_stated_bound() -> None:
    raw = m.parse("select 1", "n" * 30_000)
    runs = play(FrontendDoor(), [raw[i : i + 1000] for i in range(0, len(raw), 1000)])
    assert [run[:3] for run in runs] == [(Step.FORWARD, "P", len(raw))]
    assert pins(runs[0].facts[0]) == {PinReason.PIN_PREPARED_PROTOCOL}
    for endless in (m.parse("select 1", "n" * 70_000), m.bind(portal="p" * 70_000), m.bind(statement="s" * 70_000)):
        door = FrontendDoor()
        play(door, [endless[i : i + 1000] for i in range(0, len(endless), 1000)])
        assert door.fault == FrontendFault.FE_BAD_NAME
        assert door.kept < 70_000


@pytest.mark.parametrize(
    "raw",
    [m.message("P", b"x" * 20), m.message("B", b"x\0" + b"y" * 20), m.message("D", b"Sxxx"), m.message("C", b"Sxxx")],
)
def test_a_name_without_an_end_is_refused(raw: bytes) -> None:
    door = FrontendDoor()
    door.feed(raw + m.sync())
    assert door.fault == FrontendFault.FE_BAD_NAME


def test_ec31_a_bind_with_65535_parameters_and_every_shape_of_result_formats() -> None:
    head = m.cstr("") + m.cstr("") + struct.pack("!hH", 0, 65535)
    for formats in (b"\0\0", struct.pack("!hh", 1, 1), struct.pack("!h9h", 9, *[1] * 9)):
        raw = m.message("B", head + struct.pack("!ic", 1, b"x") * 65535 + formats)
        runs = play(FrontendDoor(), [raw[i : i + 8192] for i in range(0, len(raw), 8192)])
        assert [run[:3] for run in runs] == [(Step.FORWARD, "B", len(raw))]


# ---------------------------------------------------------------- refused


def test_unknown_types_are_refused_by_their_first_byte() -> None:
    for byte in set(range(256)) - {ord(k) for k in EVERY}:
        door = FrontendDoor()
        steps = door.feed(m.sync() + bytes([byte]))
        assert [(step[0], step[1]) for step in steps] == [(Step.FORWARD, 5), (Step.VIOLATION, 0)], byte
        assert door.fault == FrontendFault.FE_UNKNOWN_TYPE


LEAST = {"B": 12, "C": 6, "D": 6, "E": 9, "F": 14, "P": 8, "Q": 5, "d": 4, "f": 5, "H": 4, "S": 4, "X": 4, "c": 4}
MOST = dict.fromkeys("BFPQd", LARGE) | dict.fromkeys("CDEf", SMALL) | dict.fromkeys("HSXc", 4)


@pytest.mark.parametrize("kind", LEAST)
def test_ec65_lengths_at_and_beyond_the_servers_own_bounds(kind: str) -> None:
    for length, fits in (
        (LEAST[kind], True), (LEAST[kind] - 1, False), (MOST[kind], True), (MOST[kind] + 1, False),
        (0, False), (3, False), (0x7FFFFFFF, False), (0x80000000, False), (0xFFFFFFFF, False), (0xFFFFFFFB, False),
    ):  # fmt: skip
        door = FrontendDoor()
        door.feed(kind.encode() + struct.pack("!I", length))
        assert (door.fault == FrontendFault.FE_OK) == fits, f"{kind} {length:#x}"
        assert door.fault in {FrontendFault.FE_OK, FrontendFault.FE_BAD_LENGTH}


def test_ec65_a_violation_behind_good_messages_takes_nothing_from_them() -> None:
    bad = b"Q" + struct.pack("!I", 0xFFFFFFFF)
    runs = check(FrontendDoor, m.parse("select 1") + m.sync() + bad, violation=True)
    assert [run.kind for run in runs if run.n] == ["P", "S"]
