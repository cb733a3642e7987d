"""The tables of prepared statements do as dictionaries do, whatever is prepared, confirmed, forgotten and closed.

Input: three bytes per operation: which, which name or number, which text.
"""

from proxy.pgsql._statements import StatementsDoor

NAMES = (*(b"s%d" % i for i in range(40)), b"", b"\xff", b"n" * 300)
TEXTS = (*(b"select %d\0\0\0" % i for i in range(20)), b"\0\0\0", b"x" * 5000)


def seeds() -> list[bytes]:
    return [
        bytes(range(255)),
        bytes(range(254, -1, -1)) * 4,
        b"\0\1\2\0\3\2\3\1\0\2\0\0\1\1\0\4\7\5\6\7\0" * 20,
        bytes(900),
    ]


def check(data: bytes) -> None:
    door = StatementsDoor()
    names: dict[bytes, tuple[int, bytes, bool]] = {}
    ids: dict[bytes, int] = {}  # of texts in use
    server: dict[int, int] = {}
    for at in range(0, len(data) - 2, 3):
        what, which, text = data[at : at + 3]
        name, body = NAMES[which % len(NAMES)], TEXTS[text % len(TEXTS)]
        number = names[name][0] if name in names else which + 1
        match what % 8:
            case 0 | 1:
                made, fresh = door.put(name, body)
                assert ids.get(body, made) == made, "one text, two numbers"
                assert not fresh or body not in {used for _, used, _ in names.values()}
                names[name], ids[body] = (made, body, False), made
            case 2:
                door.remove(name)
                names.pop(name, None)
            case 3:
                door.confirm(number)
                names = {key: (n, used, sure or n == number) for key, (n, used, sure) in names.items()}
            case 4:
                door.forget(number)
                names = {key: held for key, held in names.items() if held[0] != number or held[2]}
            case 5:
                door.server_put(number, text)
                server[number] = text
            case 6:
                door.server_remove(number)
                server.pop(number, None)
            case _:
                oldest = door.server_oldest(text)
                older = {n: used for n, used in server.items() if used < text}
                assert (oldest in older and older[oldest] == min(older.values())) if older else oldest == 0
        for name in NAMES:
            held = names.get(name)
            assert door.get(name) == (None if held is None else held[:2])
        assert [n for n in range(1, 300) if door.server_has(n)] == sorted(n for n in server if n < 300)
        statements, unused, known, prepared = door.counts
        assert (known, prepared) == (len(names), len(server))
        assert statements - unused == len({used for _, used, _ in names.values()})
