"""What a text does is said of statements that it has, and repeated as SQL it is what was meant and nothing else.

The SQL of a replay is read by a lexer of its own (PostgreSQL's rules once more): no token in it but those of SET, RESET
and set_config(), and the values in its strings are those that `effects` told.
Input: a byte (standard_conforming_strings, raw or made of fragments), then the text, or one byte per fragment.
"""

from proxy.pgsql._settings import SettingsDoor
from proxy.sql._effects import EffectKind, effects
from proxy.sql._lex import EFFECTS, scan
from tests.fuzz import mutate as mutators
from tests.unit.sql.effects_cases import BACKSLASH, CASES, SEVERAL
from tests.unit.sql.lex_reference import tokens

RAW = 4
K = EffectKind
NAMED = {K.EFFECT_SET, K.EFFECT_RESET, K.EFFECT_ASK, K.EFFECT_DEALLOCATE}
FRAGMENTS = [
    *rb"set reset session local to = default role authorization time zone names schema search_path my.x".split(),
    *rb"all , ; ( ) rollback abort work savepoint create is client_encoding session_authorization".split(),
    *[b"null", b"begin", b"atomic"],
    *rb"""select set_config pg_catalog . "set_config" false true as x transaction discard deallocate prepare""".split(),
    *rb"""'a' 'it''s' '\' E'\'' e'x' "A b" "a""b" $$ $a$ $a$'$a$ ' " \ -- /* */ 1 -1 1.5 007 1e5 $1""".split(),
    *rb"""U&'a' U&"a" n'x' :: ||""".split(),
    *[b"\n", b"'a'\n'b'", b"e'a'\n'\\''", b"\x01", b"\xff", b"\xc3\xa9", b"n" * 70, b"set my.x = "],
    *[b";set my.y = 'b';"],
    *[b"select set_config('my.x', 'v', false)", b"set search_path = a, ", b"-- '\n", b"/* ' */"],
]  # fmt: skip


def seeds() -> list[bytes]:
    texts = [bytes([RAW]) + text for text in (*CASES, *SEVERAL) if len(text) < 500]
    texts += [bytes([RAW | 1]) + text for text in BACKSLASH]
    return texts + [bytes([facts, *range(at, at + 9)]) for facts in (0, 1) for at in range(0, len(FRAGMENTS), 5)]


def mutate(rng, data, pool):  # type: ignore[no-untyped-def]
    changed = mutators.behind(mutators.raw)(rng, data, pool)
    if changed[0] & RAW and rng.random() < 0.5:
        at = rng.randrange(1, len(changed) + 1)
        changed = changed[:at] + b" ".join(rng.choices(FRAGMENTS, k=3)) + changed[at:]
    return changed[:3000]


def statements(text: bytes, std_strings: bool) -> int:
    """How many there are, empty ones left out."""
    found, depth, seen = 0, 0, False
    for kind, token in tokens(text, std_strings):
        if kind == "self" and token == b";" and depth == 0:
            found, seen = found + seen, False
            continue
        seen = True
        depth = max(0, depth + {b"(": 1, b")": -1}.get(token, 0))
    return found + seen


def undone(token: bytes) -> bytes:
    """The value of a string or quoted name."""
    if token.startswith(b'"'):
        return token[1:-1].replace(b'""', b'"')
    inside = token[token.index(b"'") + 1 : -1].replace(b"''", b"'")
    return inside.replace(b"\\\\", b"\\") if token[:1] == b"E" else inside


def read_back(sql: bytes, std_strings: bool) -> list[tuple[bytes, bytes | None]]:
    """The (name, value) of each statement of a replay; anything unforeseen in it fails."""
    found: list[tuple[bytes, bytes | None]] = []
    line = [*tokens(sql, std_strings)]

    def take(kind: str, *texts: bytes) -> bytes:
        got = line.pop(0)
        assert got[0] == kind and (not texts or got[1] in texts), (sql, got, kind, texts)
        return got[1]

    def name() -> bytes:
        parts = [undone(take("name"))]
        while line[0] == ("self", b"."):
            line.pop(0)
            parts.append(undone(take("name")))
        return b".".join(parts)

    while line:
        word = take("word", b"BEGIN", b"COMMIT", b"SET", b"RESET", b"SELECT")
        if word == b"SET":
            which = name()
            take("word", b"TO")
            values = [undone(take("string"))]
            while line[0] == ("self", b","):
                line.pop(0)
                values.append(undone(take("string")))
            found.append((which, b"\x01".join(values)))
        elif word == b"RESET" and line[0][0] == "word":
            which = take("word", b"ROLE", b"SESSION")
            if which == b"SESSION":
                take("word", b"AUTHORIZATION")
            found.append(({b"ROLE": b"role"}.get(which, b"session_authorization"), None))
        elif word == b"RESET":
            found.append((name(), None))
        elif word == b"SELECT":
            for text in (b"pg_catalog", b".", b"set_config", b"("):
                take("self" if text in b".(" else "word", text)
            which = undone(take("string"))
            take("self", b",")
            found.append((which, undone(take("string"))))
            for text in (b",", b"false", b")"):
                take("word" if text == b"false" else "self", text)
        if word != b"COMMIT":
            take("self", b";")
    return found


def queries(messages: bytes) -> list[bytes]:
    pieces = mutators.split(messages, 1)
    assert b"".join(pieces) == messages
    for one in pieces:
        assert one[:1] == b"Q" and one.endswith(b"\0") and one.count(b"\0", 5) == 1, one
    return [one[5:-1] for one in pieces]


def check(data: bytes) -> None:
    facts = data[0] if data else 0
    std_strings, text = not facts & 1, data[1:]
    if not facts & RAW:
        text = b" ".join(FRAGMENTS[byte % len(FRAGMENTS)] for byte in text[:60])
    text = text.replace(b"\0", b"0")  # a Query ends there
    found = effects(text, std_strings)
    total = statements(text, std_strings)
    at = 0
    now: dict[bytes, bytes] = {}
    for kind, statement, name, value in found:
        assert at <= statement < max(total, 1), (text, found, total)
        at = statement
        raw = name.encode("latin-1")
        assert (raw != b"") <= (kind in NAMED or (kind == K.EFFECT_UNKNOWN and raw in {b"seed", b"temp_buffers"}))
        if kind in {K.EFFECT_SET, K.EFFECT_RESET, K.EFFECT_ASK}:
            assert 0 < len(raw) < 128
            assert raw == raw.lower() and not set(raw) & {*range(0x20), 0x22, *range(0x80, 0x100)}, (text, name)
        if kind == K.EFFECT_SET:
            now[raw] = value
        elif kind == K.EFFECT_RESET:
            now.pop(raw, None)
    touches = scan(text, std_strings)[0]
    # UNKNOWN and ASK may be mere doubt, which costs a pin or a question; and no setting is called as these are
    doubt, words = {K.EFFECT_UNKNOWN, K.EFFECT_ASK}, {"local", "transaction", "constraints"}
    certain = [kind for kind, _, name, _ in found if kind not in doubt and name not in words]
    assert not certain or touches & EFFECTS or touches & 0xFFFFFFFF, f"{text!r}: nobody would have looked for {found}"
    for was in ({}, {b"my.x": b"old", b"role": b"r", b"other": b"'"}):
        for inside in (False, True):
            said = SettingsDoor.replay(was, now, inside)[1]
            for mode in (True, False):
                read = [item for one in queries(said) for item in read_back(one, mode)]
                state = dict(was)
                for which, value_or_none in read:
                    if value_or_none is None:
                        state.pop(which, None)
                    else:
                        state[which] = value_or_none
                assert state == {which: value.removeprefix(b"\x01") for which, value in now.items()}, (text, said)
