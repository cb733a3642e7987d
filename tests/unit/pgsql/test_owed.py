"""proxy.pgsql._owed: which reply answers which request. Request and reply letters are the manual's."""

import pytest

from proxy.pgsql._owed import CopyState, OwedDoor, OwedKind, Verdict

K = OwedKind
REQUESTS = {
    "Q": K.OWED_QUERY, "F": K.OWED_FUNCTION, "S": K.OWED_SYNC, "P": K.OWED_PARSE, "B": K.OWED_BIND,
    "D": K.OWED_DESCRIBE, "E": K.OWED_EXECUTE, "C": K.OWED_CLOSE, "c": K.OWED_COPY_END,
}  # fmt: skip


def door(requests: str = "") -> OwedDoor:
    made = OwedDoor()
    for letter in requests:
        made.request(REQUESTS[letter])
    return made


def replies(made: OwedDoor, letters: str) -> list[Verdict]:
    return [made.reply(letter.encode()) for letter in letters]


def owed(made: OwedDoor) -> str:
    letters = {int(kind): letter for letter, kind in REQUESTS.items()}
    return "".join(letters[entry & K.OWED_KIND] for entry in made.entries)


def ends_clean(requests: str, answer: str) -> None:
    """Every reply is forwarded, the last one and no earlier one empties the queue."""
    made = door(requests)
    for i, letter in enumerate(answer):
        assert made.entries or i == 0, f"nothing owed any more before {answer[i:]}"
        assert made.reply(letter.encode()) == Verdict.REPLY_FORWARD, f"{letter} at {i}"
    assert made.entries == []
    assert not made.skipping
    assert not made.in_doubt
    assert made.copy == CopyState.COPY_NONE


@pytest.mark.parametrize(
    ("requests", "answer"),
    [
        ("Q", "TDDDCZ"),
        ("Q", "CZ"),
        ("Q", "IZ"),
        ("Q", "EZ"),
        ("Q", "TDDEZ"),  # an error in the middle of the rows
        ("Q", "TDCTDCCZ"),  # several statements in one query
        ("Q", "NCSZ"),  # notices and reports come at any time
        ("QQQ", "CZEZTDCZ"),
        ("F", "VZ"),
        ("F", "EZ"),
        ("S", "Z"),
        ("S", "EZ"),  # a deferred constraint fails at the commit
        ("PBDES", "12nCZ"),
        ("PBDES", "12TDDCZ"),
        ("PDS", "1tnZ"),
        ("PDS", "1tTZ"),
        ("CS", "3Z"),
        ("PBES", "12IZ"),
        ("PBES", "12DDsZ"),  # portal suspended
        ("PBESES", "12DsZDCZ"),
        ("SSS", "ZZZ"),  # several Syncs in one packet
        ("PBQS", "12TDCZZ"),  # a simple query in the middle of a batch
    ],
)
def test_answers_of_every_request(requests: str, answer: str) -> None:
    ends_clean(requests, answer)


@pytest.mark.parametrize(
    ("requests", "answer", "left", "skipping"),
    [
        ("PBDES", "E", "S", False),
        ("PBDES", "1E", "S", False),
        ("PBDES", "12E", "S", False),
        ("PBDES", "12TE", "S", False),
        ("PBDES", "12TDDE", "S", False),
        ("PBE", "1E", "", True),
        ("PBEFS", "1E", "S", False),
        ("PBESPBES", "1E", "SPBES", False),
        ("CS", "E", "S", False),
    ],
)
def test_ec16_an_error_skips_everything_up_to_sync(requests: str, answer: str, left: str, skipping: bool) -> None:
    made = door(requests)
    assert set(replies(made, answer)) == {Verdict.REPLY_FORWARD}
    assert owed(made) == left
    assert made.skipping == skipping


def test_ec16_a_simple_query_in_an_aborted_pipeline_is_skipped_too() -> None:
    made = door("PBEQS")
    replies(made, "1E")
    assert owed(made) == "S"
    assert replies(made, "Z") == [Verdict.REPLY_FORWARD]
    assert made.entries == []


def test_ec16_what_is_sent_after_the_error_is_owed_nothing_until_sync() -> None:
    made = door("PB")
    replies(made, "E")
    for letter in "EDQFc":
        made.request(REQUESTS[letter])
        assert made.entries == []
        assert made.skipping
    made.request(K.OWED_SYNC)
    made.request(K.OWED_QUERY)
    assert owed(made) == "SQ"
    assert not made.skipping
    assert replies(made, "ZCZ") == [Verdict.REPLY_FORWARD] * 3
    assert made.entries == []


@pytest.mark.parametrize("head", ["Q", "F"])
def test_an_error_of_a_query_skips_nothing(head: str) -> None:
    made = door(head + "PBES")
    replies(made, "EZ")
    assert owed(made) == "PBES"
    assert not made.skipping


def test_an_error_behind_a_stray_copy_end_belongs_to_the_request_behind_it() -> None:
    """CopyDone for an Execute that was no COPY answers nothing; the error is the Query's, and ReadyForQuery follows."""
    made = door("PBEcQ")
    replies(made, "12C")
    assert replies(made, "EZ") == [Verdict.REPLY_FORWARD] * 2
    assert made.entries == []
    assert not made.skipping


def test_unasked_answers_are_violations() -> None:
    for letter in "TDCIZVGHW123snt":
        assert door().reply(letter.encode()) == Verdict.REPLY_VIOLATION, letter


@pytest.mark.parametrize(
    ("requests", "wrong"),
    [
        ("P", "2CZTDnsVG"), ("B", "1CZTDnsVG"), ("D", "12CZDsVG"), ("E", "12ZTntVG"[:-1]), ("C", "12CZTDnsVG"),
        ("S", "12CTDnsVGI"), ("Q", "123tnsVdc"), ("F", "12CTDnsGI"),
    ],
)  # fmt: skip
def test_answers_of_another_request_are_violations(requests: str, wrong: str) -> None:
    for letter in wrong:
        assert door(requests).reply(letter.encode()) == Verdict.REPLY_VIOLATION, letter


def test_notices_reports_and_notifications_belong_to_nobody() -> None:
    for requests in ("", "Q", "PBES", "S"):
        made = door(requests)
        before = made.entries
        assert replies(made, "NSA") == [Verdict.REPLY_FORWARD] * 3
        assert made.entries == before


def test_ours_are_swallowed_and_the_clients_are_not() -> None:
    made = door()
    made.request(K.OWED_QUERY | K.OWED_SWALLOW)
    made.request(K.OWED_QUERY)
    assert replies(made, "CZ") == [Verdict.REPLY_SWALLOW] * 2
    assert replies(made, "CZ") == [Verdict.REPLY_FORWARD] * 2
    made.request(K.OWED_PARSE | K.OWED_SWALLOW)
    made.request(K.OWED_BIND)
    made.request(K.OWED_SYNC)
    assert replies(made, "12Z") == [Verdict.REPLY_SWALLOW, Verdict.REPLY_FORWARD, Verdict.REPLY_FORWARD]


def test_ec17_an_error_of_our_own_request_is_swallowed() -> None:
    made = door()
    made.request(K.OWED_QUERY | K.OWED_SWALLOW)
    assert replies(made, "EZ") == [Verdict.REPLY_SWALLOW] * 2


# ---------------------------------------------------------------- COPY


@pytest.mark.parametrize(
    ("requests", "answer"),
    [
        ("Qc", "GCZ"),
        ("Qc", "GEZ"),  # bad data
        ("Qc", "EZ"),  # no such table: CopyDone was already on its way
        ("QcQ", "GCZCZ"),
        ("QcQ", "EZCZ"),
        ("Qcc", "GCGCZ"),  # two COPYs in one query, both ended in advance
        ("Q", "HdddcCZ"),
        ("Q", "HddEZ"),
        ("PBEcS", "12GCZ"),
        ("PBEcS", "12GEZ"),
        ("PBEcS", "12EZ"),
        ("PBES", "12HddcCZ"),
        ("PBES", "12HdEZ"),
        ("PBEcS", "12CZ"),  # it was no COPY: CopyDone is ignored
    ],
)
def test_ec36_copies_that_end_in_every_way(requests: str, answer: str) -> None:
    ends_clean(requests, answer)


def test_ec36_sync_inside_copy_in_is_ignored_when_the_copy_succeeds() -> None:
    """libpq sends Sync right behind Execute, and once more behind CopyDone."""
    made = door("PBES")
    replies(made, "12G")
    made.request(K.OWED_COPY_END)
    made.request(K.OWED_SYNC)
    assert replies(made, "C") == [Verdict.REPLY_FORWARD]
    assert owed(made) == "S"
    replies(made, "Z")
    assert made.entries == []
    assert not made.in_doubt


def test_ec36_sync_sent_during_copy_in_is_ignored_when_the_copy_succeeds() -> None:
    made = door("PBE")
    replies(made, "12G")
    for letter in "SScS":
        made.request(REQUESTS[letter])
    replies(made, "CZ")
    assert made.entries == []
    assert not made.in_doubt


@pytest.mark.parametrize("when", ["before CopyInResponse", "after it"])
def test_ec36_sync_inside_a_copy_that_fails_leaves_doubt(when: str) -> None:
    """Whether the server read the Sync as part of the copy stream cannot be known from outside."""
    made = door("PBES" if when == "before CopyInResponse" else "PBE")
    replies(made, "12G")
    if when == "after it":
        made.request(K.OWED_SYNC)
    made.request(K.OWED_COPY_END)
    made.request(K.OWED_SYNC)
    assert replies(made, "E") == [Verdict.REPLY_FORWARD]
    assert made.in_doubt
    assert replies(made, "ZZ") == [Verdict.REPLY_FORWARD] * 2
    assert made.in_doubt, "doubt is for good"


@pytest.mark.parametrize("letter", "QPBDECF")
@pytest.mark.parametrize("when", ["before CopyInResponse", "after it"])
def test_ec36_a_request_inside_a_copy_stream_leaves_doubt(letter: str, when: str) -> None:
    """The server takes it for an error of the COPY: nobody knows from outside what will be answered."""
    made = door("Q" + letter if when == "before CopyInResponse" else "Q")
    replies(made, "G")
    if when == "after it":
        made.request(REQUESTS[letter])
    assert made.in_doubt


def test_copy_data_outside_copy_out_is_a_violation() -> None:
    made = door("Q")
    assert replies(made, "G") == [Verdict.REPLY_FORWARD]
    assert made.copy == CopyState.COPY_IN
    assert made.reply(b"d") == Verdict.REPLY_VIOLATION


def test_ec38_copy_both_goes_both_ways() -> None:
    made = door("Q")
    assert replies(made, "Wdd") == [Verdict.REPLY_FORWARD] * 3
    assert made.copy == CopyState.COPY_BOTH
    made.request(K.OWED_COPY_END)
    assert replies(made, "dcCZ") == [Verdict.REPLY_FORWARD] * 4
    assert made.entries == []


# ---------------------------------------------------------------- counting


def test_ec1_a_deep_pipeline_is_counted_to_the_last_reply() -> None:
    made = door("Q" * 1000 + "PBES" * 1000)
    assert len(made.entries) == 5000
    for _ in range(1000):
        replies(made, "CZ")
    for _ in range(999):
        replies(made, "12CZ")
    assert owed(made) == "PBES"
    replies(made, "12CZ")
    assert made.entries == []
    assert made.reply(b"Z") == Verdict.REPLY_VIOLATION


def test_the_ring_goes_round_and_grows_in_the_middle() -> None:
    made = door()
    for _ in range(20):
        made.request(K.OWED_QUERY)
        made.request(K.OWED_SYNC)
        replies(made, "Z")
    assert owed(made) == ("QS" * 20)[20:]
    for _ in range(100):
        made.request(K.OWED_PARSE)
    assert owed(made) == ("QS" * 20)[20:] + "P" * 100
