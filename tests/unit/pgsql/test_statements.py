"""The three tables of prepared statements against plain dictionaries."""

import random

import pytest

from proxy.pgsql._statements import StatementsDoor


def body(n: int) -> bytes:
    return b"select %d\0\0\0" % n


def test_the_same_text_is_the_same_statement() -> None:
    door = StatementsDoor()
    first, fresh = door.put(b"a", body(1))
    again, known = door.put(b"b", body(1))
    assert (fresh, known) == (True, False)
    assert first == again
    assert door.get(b"a") == (first, body(1))


def test_ec22_the_same_text_read_otherwise_is_another_statement() -> None:
    door = StatementsDoor()
    assert door.put(b"a", body(1), 3)[0] != door.put(b"b", body(1), 2)[0]


def test_ec21_a_failed_parse_takes_its_unconfirmed_names_along() -> None:
    door = StatementsDoor()
    number, _ = door.put(b"old", body(1))
    door.confirm(number)
    door.put(b"new", body(1))
    door.forget(number)
    assert door.get(b"new") is None
    assert door.get(b"old") == (number, body(1))


def test_ec23_what_was_used_in_this_batch_is_never_the_oldest() -> None:
    door = StatementsDoor()
    for number, batch in ((1, 7), (2, 5), (3, 6)):
        door.server_put(number, batch)
    assert door.server_oldest(7) == 2
    assert door.server_oldest(5) == 0
    door.server_remove(2)
    assert door.server_oldest(7) == 3


def test_unused_statements_are_kept_and_bounded() -> None:
    door = StatementsDoor()
    number, _ = door.put(b"s", body(0))
    door.remove(b"s")
    assert door.put(b"s", body(0)) == (number, False)
    for n in range(5000):
        door.put(b"s", body(n))
    statements, unused, names, _ = door.counts
    assert names == 1
    assert unused <= 2048
    assert statements == unused + 1


@pytest.mark.parametrize("seed", range(5))
def test_both_tables_are_dictionaries(seed: int) -> None:
    chance = random.Random(seed)
    door = StatementsDoor()
    names: dict[bytes, bytes] = {}
    known: set[int] = set()
    for step in range(6000):
        name = b"s%d" % chance.randrange(200)
        number = chance.randrange(1, 300)
        if chance.random() < 0.6:
            names[name] = body(chance.randrange(50))
            door.put(name, names[name])
            door.server_put(number, step)
            known.add(number)
        else:
            names.pop(name, None)
            door.remove(name)
            door.server_remove(number)
            known.discard(number)
        if step % 500 == 0:
            for n in range(200):
                found = door.get(b"s%d" % n)
                assert (found and found[1]) == names.get(b"s%d" % n)
            assert [n for n in range(1, 300) if door.server_has(n)] == sorted(known)
    assert door.counts[2:] == (len(names), len(known))


def test_names_on_the_server() -> None:
    assert StatementsDoor.server_name(0) == b"slw_0"
    assert StatementsDoor.server_name(0x0FFFFFFF) == b"slw_fffffff"
