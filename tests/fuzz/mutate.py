"""Seeded mutators: of bytes, of numbers, of whole protocol messages. Knows no target.

A mutator takes a `random.Random` and bytes and returns bytes; `pool` is what else there is to splice from. Messages are
`type, length, body` (`typed`) or `length, body` (`untyped`: startup packets); what does not parse as such is a tail.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from functools import cache

Mutator = Callable[[random.Random, bytes, Sequence[bytes]], bytes]

BYTES = (0x00, 0x01, 0x16, 0x20, 0x27, 0x2C, 0x3D, 0x5C, 0x7F, 0x80, 0xFE, 0xFF)
WORDS = (
    0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 255, 256, 257, 9999, 10000, 10001, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 196608,
    196609, 196610, 0x20000, 0x3FFFFFFE, 0x3FFFFFFF, 0x40000002, 0x40000003, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFB,
    0xFFFFFFFC, 0xFFFFFFFF,
)  # fmt: skip
MAX_INPUT = 1 << 18


def of(data: bytes) -> random.Random:
    """The chances that belong to this input: the same on every run, so that an input is all it takes to repeat one."""
    return random.Random(zlib.crc32(data))


# bytes


def _flip(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _byte(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([rng.choice((*BYTES, rng.randrange(256)))]) + data[at + 1 :]


def _word(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, size = rng.randrange(len(data)), rng.choice((2, 4))
    return data[:at] + (rng.choice(WORDS) % (1 << 8 * size)).to_bytes(size) + data[at + size :]


def _insert(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at, n = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 5, 100, 1000))
    return data[:at] + bytes([rng.choice(BYTES)]) * n + data[at:]


def _delete(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.choice((1, 1, 2, 4, 16, len(data))) :]


def _repeat(rng: random.Random, data: bytes, _: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data))
    piece = data[at : at + rng.choice((1, 4, 16, 64))]
    return data[:at] + piece * rng.choice((2, 3, 50)) + data[at + len(piece) :]


def _splice(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    other = rng.choice(pool) if pool else data
    at, start = rng.randrange(len(data) + 1), rng.randrange(len(other) + 1)
    stop = start + rng.choice((1, 8, 64, len(other)))
    return data[:at] + other[start:stop] + data[rng.choice((at, len(data))) :]


_RAW: tuple[Mutator, ...] = (_flip, _byte, _word, _insert, _delete, _repeat, _splice)


def raw(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    """One to four changes of bytes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = rng.choice(_RAW)(rng, data, pool) if data else bytes([rng.randrange(256)])
    return data[:MAX_INPUT]


# messages


def split(data: bytes, head: int) -> list[bytes]:
    """Whole messages, `head` bytes of type (0 or 1) in front of each length; what is none is the last piece."""
    found, at = [], 0
    while len(data) - at >= head + 4:
        size = int.from_bytes(data[at + head : at + head + 4])
        if size < 4 or at + head + size > len(data):
            break
        found.append(data[at : at + head + size])
        at += head + size
    return found + ([data[at:]] if at < len(data) else [])


def _body(rng: random.Random, one: bytes, pool: Sequence[bytes], head: int) -> bytes:
    """Another body under a length that is right: it passes the framing and meets what is behind."""
    body = raw(rng, one[head + 4 :], [piece[head + 4 :] for piece in pool] or [b""])
    return one[:head] + (len(body) + 4).to_bytes(4) + body


def _length(rng: random.Random, one: bytes, head: int) -> bytes:
    """A lie about the length."""
    true = len(one) - head
    lie = rng.choice((*WORDS, true - 1, true + 1, true * 2)) % (1 << 32)
    return one[:head] + lie.to_bytes(4) + one[head + 4 :]


def _messages(head: int, kinds: bytes) -> Mutator:
    def mutate(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
        pieces = split(data, head)
        others = split(rng.choice(pool), head) if pool else []
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            if not pieces:
                pieces = others[:1] or [b"\0" * (head + 4)]
            at = rng.randrange(len(pieces))
            match rng.randrange(9):
                case 0:
                    pieces[at] = _body(rng, pieces[at], others, head)
                case 1:
                    pieces[at] = _length(rng, pieces[at], head)
                case 2 if head:
                    pieces[at] = (
                        bytes([rng.choice(kinds) if rng.random() < 0.8 else rng.randrange(256)]) + pieces[at][1:]
                    )
                case 3:
                    del pieces[at]
                case 4:
                    pieces.insert(rng.randrange(len(pieces) + 1), pieces[at])
                case 5:
                    pieces[at], pieces[0] = pieces[0], pieces[at]
                case 6 if others:
                    pieces.insert(at, rng.choice(others))
                case 7:
                    pieces[at] = pieces[at][: rng.randrange(len(pieces[at]) + 1)]
                case _:
                    pieces = pieces[:at] + others + pieces[at:]
        return b"".join(pieces)[:MAX_INPUT]

    return mutate


FRONTEND_KINDS = b"BCDEFHPQSXcdfp"
BACKEND_KINDS = b"123ACDEGHIKNRSTVWZcdnstv"
_UNTYPED = _messages(0, b"")


@cache
def _typed(kinds: bytes) -> Mutator:
    return _messages(1, kinds)


def typed(rng: random.Random, data: bytes, pool: Sequence[bytes], kinds: bytes = FRONTEND_KINDS) -> bytes:
    return _typed(kinds)(rng, data, pool) if rng.random() < 0.8 else raw(rng, data, pool)


def untyped(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    return _UNTYPED(rng, data, pool) if rng.random() < 0.6 else raw(rng, data, pool)


def behind(mutate: Mutator, n: int = 1) -> Mutator:
    """For inputs that begin with `n` bytes of circumstances: changes those now and then, and mutates what is behind."""

    def mutated(rng: random.Random, data: bytes, pool: Sequence[bytes]) -> bytes:
        head = data[:n].ljust(n, b"\0")
        if rng.random() < 0.1:
            head = bytes(rng.randrange(256) for _ in head)
        return head + mutate(rng, data[n:], [other[n:] for other in pool])

    return mutated


def cuts(rng: random.Random, data: bytes) -> list[bytes]:
    """The same bytes in random pieces, small ones preferred."""
    pieces, at = [], 0
    size = rng.choice((1, 2, 5, 7, 50, 1000)) if len(data) < 3000 else rng.choice((2000, 8192, 30000))
    while at < len(data):
        n = rng.randint(1, size)
        pieces.append(data[at : at + n])
        at += n
    return pieces
