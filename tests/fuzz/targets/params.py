"""The table of reported parameters does as a dictionary does, shares equal sets, and refuses what is no report.

Input: four bytes per operation: which, on which set, which name, which value; or, behind a 0xFF, raw bytes to intern.
"""

from proxy.pgsql._params import ParamsDoor
from tests.fuzz import mutate as mutators
from tests.harness import messages as m

NAMES = (b"a", b"ab", b"b", b"client_encoding", b"standard_conforming_strings", b"TimeZone", b"", b"\xff")
VALUES = (b"", b"on", b"off", b"SJIS", b"UTF8", b"GBK", b"x" * 300, b"\xff")


def seeds() -> list[bytes]:
    one = bytes([0, 0, 3, 3, 0, 0, 4, 2, 1, 0, 0, 0, 2, 1, 0, 0, 3, 0, 1, 0])
    raw = b"\xff" + m.parameter_status("a", "b") + m.parameter_status("client_encoding", "GBK")
    return [one, one * 3, bytes(range(200)), raw, raw + b"S", b"\xff" + m.parameter_status("a", "b") * 2]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    # short: every step looks at every set
    return (mutators.typed if data[:1] == b"\xff" else mutators.raw)(rng, data, pool)[:1000]


def _status(name: bytes, value: bytes) -> bytes:
    return m.message("S", name + b"\0" + value + b"\0")


def _bytes(held: dict[bytes, bytes]) -> bytes:
    return b"".join(_status(name, held[name]) for name in sorted(held))


def _raw(data: bytes) -> None:
    pieces = mutators.split(data, 1)
    good = all(p[:1] == b"S" and p[-1:] == b"\0" and p.count(b"\0", 5) == 2 and p[5:].count(b"\0") == 2 for p in pieces)
    whole = all(int.from_bytes(p[1:5]) + 1 == len(p) and len(p) < 0x1000000 for p in pieces if len(p) >= 5)
    door = ParamsDoor()
    try:
        made = door.intern(data)
    except ValueError:
        assert not (good and whole), data
        assert door.count == 0
        return
    assert good, data
    assert door.data(made) == data
    assert door.difference(made, made) == b""
    for piece in pieces:
        made = door.change(made, piece)  # whatever order they came in: no crash, and the message is in
        assert piece in door.data(made)
    assert door.count == 1


def check(data: bytes) -> None:
    if data[:1] == b"\xff":
        _raw(data[1:])
        return
    door = ParamsDoor()
    sets: list[tuple[int, dict[bytes, bytes]]] = []
    for at in range(0, len(data) - 3, 4):
        what, which, name, value = data[at : at + 4]
        name_, value_ = NAMES[name % len(NAMES)], VALUES[value % len(VALUES)]
        which %= max(len(sets), 1)
        if not sets or what % 4 == 0:
            held = {name_: value_, NAMES[value % len(NAMES)]: VALUES[name % len(VALUES)]}
            sets.append((door.intern(_bytes(held)), held))
        elif what % 4 == 1:
            number, held = sets[which]
            held = {**held, name_: value_}
            sets[which] = (door.change(number, _status(name_, value_)), held)
        elif what % 4 == 2:
            (was, told), (now, held) = sets[which], sets[name % len(sets)]
            differs = {key: text for key, text in held.items() if told.get(key) != text}
            assert door.difference(was, now) == _bytes(differs)
        else:
            door.drop(sets.pop(which)[0])
        for number, held in sets:
            assert door.data(number) == _bytes(held)
            strings = held.get(b"standard_conforming_strings") != b"off"
            assert door.flags(number) == (strings, held.get(b"client_encoding") not in (b"SJIS", b"GBK"))
        assert door.count == len({_bytes(held) for _, held in sets})
        assert len({number for number, _ in sets}) == door.count, "equal sets must be one"
