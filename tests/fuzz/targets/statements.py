"""The tables of prepared statements do as dictionaries do, whatever is prepared, closed, answered and cleared.

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
    names: dict[bytes, bytes] = {}  # to texts
    under_way: list[tuple[bytes, bytes | None, int]] = []  # changes that have not been answered
    ids: dict[bytes, int] = {}
    server: dict[int, int] = {}
    batch = 0
    for at in range(0, len(data) - 2, 3):
        what, which, text = data[at : at + 3]
        name, body = NAMES[which % len(NAMES)], TEXTS[text % len(TEXTS)]
        in_use = {*names.values(), *(used for _, used, _ in under_way if used is not None)}
        match what % 12:
            case 0 | 1:
                made, fresh = door.put(name, body)
                assert ids.get(body, made) == made or body not in in_use, "one text, two numbers"
                assert not fresh or body not in in_use
                names[name], ids[body] = body, made
            case 2:
                door.remove(name)
                names.pop(name, None)
            case 3 | 4:
                door.change(name, body, batch)
                under_way.append((name, body, batch))
            case 5:
                door.change(name, None, batch)
                under_way.append((name, None, batch))
            case 6 | 7:
                happened = what & 16 == 0
                door.answered(happened)
                if under_way:
                    changed, used, _ = under_way.pop(0)
                    if happened and used is None:
                        names.pop(changed, None)
                    elif happened and used is not None:
                        names[changed] = used
            case 8:
                batch += 1
                if what & 64:
                    door.clear()
                    names.clear()
            case 9:
                door.server_put(which + 1, text)
                server[which + 1] = text
            case 10:
                door.server_remove(which + 1)
                server.pop(which + 1, None)
            case _:
                oldest = door.server_oldest(text)
                older = {n: used for n, used in server.items() if used < text}
                assert (oldest in older and older[oldest] == min(older.values())) if older else oldest == 0
        for name in NAMES:
            mine = [(used, sent) for changed, used, sent in under_way if changed == name]
            found = door.get(name, batch)
            if mine and mine[-1][1] != batch:
                assert found == "unsure"
            else:
                assert (found and found[1]) == (mine[-1][0] if mine else names.get(name))
        assert [n for n in range(1, 300) if door.server_has(n)] == sorted(n for n in server if n < 300)
        statements, unused, known, prepared = door.counts
        assert (known, prepared) == (len(names), len(server))
        in_use = {*names.values(), *(used for _, used, _ in under_way if used is not None)}
        assert statements - unused == len(in_use)
