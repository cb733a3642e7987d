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


@pytest.mark.edge_case(22)
def test_ec22_the_same_text_read_otherwise_is_another_statement() -> None:
    door = StatementsDoor()
    assert door.put(b"a", body(1), 3)[0] != door.put(b"b", body(1), 2)[0]


@pytest.mark.edge_case(21)
def test_ec21_a_failed_parse_leaves_the_name_as_it_was() -> None:
    door = StatementsDoor()
    number, _ = door.put(b"old", body(1))
    door.change(b"new", body(1))
    door.change(b"other", body(2))
    door.answered(False)
    assert door.get(b"new") is None
    assert door.get(b"old") == (number, body(1))
    door.answered(True)
    assert door.get(b"other")
    assert door.counts[2] == 2


@pytest.mark.edge_case(21)
def test_ec21_a_name_is_defined_when_the_server_has_said_so() -> None:
    door = StatementsDoor()
    door.change(b"s", body(1), 7)
    assert door.get(b"s", 7) is not None, "within its batch: if the Parse fails, whatever uses the name is skipped"
    assert door.get(b"s", 8) == "unsure", "behind its Sync, nobody knows"
    assert door.get(b"t", 8) is None, "of other names nothing is under way"
    door.answered(True)
    assert door.get(b"s", 8) == door.get(b"s", 7)
    assert door.get(b"s", 9) == (door.put(b"again", body(1))[0], body(1))


@pytest.mark.edge_case(24)
@pytest.mark.parametrize("happened", [True, False])
def test_ec24_a_closed_name_is_gone_when_the_server_has_said_so(happened: bool) -> None:
    door = StatementsDoor()
    held = (door.put(b"s", body(1))[0], body(1))
    door.change(b"s", None, 3)
    assert door.get(b"s", 3) is None
    assert door.get(b"s", 4) == "unsure"
    door.answered(happened)
    assert door.get(b"s", 4) == (None if happened else held)


@pytest.mark.edge_case(22)
def test_ec22_close_and_parse_of_one_name_in_one_batch() -> None:
    door = StatementsDoor()
    old = (door.put(b"s", body(1))[0], body(1))
    for happened in ((True, True), (True, False), (False, False)):
        door.change(b"s", None, 1)
        door.change(b"s", body(2), 1)
        fresh = door.get(b"s", 1)
        assert isinstance(fresh, tuple) and fresh[1] == body(2), "the last one under way is what counts in the batch"
        for one in happened:
            door.answered(one)
        assert door.get(b"s", 2) == (fresh if happened[1] else None if happened[0] else old)
        door.remove(b"s")
        door.put(b"s", body(1))


def test_answers_to_nothing_change_nothing() -> None:
    door = StatementsDoor()
    door.put(b"s", body(1))
    door.answered(True)
    door.answered(False)
    assert door.get(b"s")
    assert door.counts == (1, 0, 1, 0)


@pytest.mark.edge_case(28)
def test_ec28_clearing_forgets_what_is_defined_not_what_is_under_way() -> None:
    door = StatementsDoor()
    for n in range(100):
        door.put(b"s%d" % n, body(n))
    door.change(b"later", body(200), 1)
    door.clear()
    assert door.counts[2] == 0
    assert all(door.get(b"s%d" % n) is None for n in range(100))
    door.answered(True)
    assert door.get(b"later", 2)
    assert door.counts[2] == 1


@pytest.mark.parametrize("seed", range(5))
def test_changes_are_a_list_of_what_will_be(seed: int) -> None:
    """Against a plain model: a dictionary, and the changes whose answers have not come."""
    chance = random.Random(seed)
    door = StatementsDoor()
    names: dict[bytes, bytes] = {}
    under_way: list[tuple[bytes, bytes | None, int]] = []
    batch = 0
    for _ in range(4000):
        name = b"s%d" % chance.randrange(12)
        match chance.randrange(6):
            case 0 | 1:
                text = body(chance.randrange(20)) if chance.random() < 0.6 else None
                under_way.append((name, text, batch))
                door.change(name, text, batch)
            case 2:
                batch += 1
            case 3 if under_way:
                changed, text, _ = under_way.pop(0)
                happened = chance.random() < 0.7
                door.answered(happened)
                if happened and text is None:
                    names.pop(changed, None)
                elif happened and text is not None:
                    names[changed] = text
            case _:
                mine = [(text, sent) for changed, text, sent in under_way if changed == name]
                found = door.get(name, batch)
                if not mine:
                    assert (found and found[1]) == names.get(name)
                elif mine[-1][1:] == (batch,):
                    assert (found and found[1]) == mine[-1][0]
                else:
                    assert found == "unsure"


@pytest.mark.edge_case(23)
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
