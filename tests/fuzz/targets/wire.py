"""A Reader never reads behind the end and never recovers; an IoBuf is a queue that owns nothing when it is empty.

Input: two bytes per operation: which, how much; a Reader reads the whole input, an IoBuf is filled from it.
"""

import struct

from proxy._wire import IoBufDoor, ReaderDoor


def seeds() -> list[bytes]:
    return [
        bytes(range(256)),
        b"\0" * 40,
        b"\1\2\3\0abc\0\xff\xff\xff\xff" * 9,
        bytes([0, 255, 1, 3] * 100),
        b"\x02\xff" * 30,
    ]


def _reader(data: bytes) -> None:
    door, at, ok = ReaderDoor(data), 0, True
    for op in data[:200]:
        match op % 6:
            case 0 | 1 | 2 as how:
                size = (1, 2, 4)[how]
                found = (door.u8, door.u16, door.u32)[how]()
                fits = len(data) - at >= size
                assert found == (struct.unpack_from("!" + "BHI"[how], data, at)[0] if fits else 0)
            case 3:
                end = data.find(b"\0", at)
                fits, size = end >= 0, end + 1 - at
                assert door.cstr() == (data[at:end] if fits else None)
            case _:
                size = (op - 128) * 3
                fits = 0 <= size <= len(data) - at
                assert door.take(size) == (data[at : at + size] if fits else None)
        ok = ok and fits
        at += size if fits else 0
        assert door.ok == ok
        assert door.left == len(data) - at


def _iobuf(data: bytes) -> None:
    door, model = IoBufDoor(), b""
    for i in range(0, len(data) - 1, 2):
        what, n = data[i] % 5, data[i + 1] * (1 if data[i] < 128 else 37)
        if what < 3:
            piece = (data * (n // len(data) + 1))[:n]
            assert door.put(piece) == 0
            model += piece
        else:
            assert door.take(n) == model[:n]
            model = model[n:]
        assert len(door) == len(model)
        if not model:
            assert door.capacity == 0 or what < 3, "an empty buffer owns memory"
        else:
            assert len(model) <= door.capacity
        if len(model) > 1 << 17:
            assert door.take(len(model)) == model
            model = b""
    assert door.take(len(model)) == model


def check(data: bytes) -> None:
    _reader(data)
    _iobuf(data[:3000])
