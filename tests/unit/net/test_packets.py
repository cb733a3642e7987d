"""Messages between processes: sizes, descriptors, and a peer that does not read, or is gone."""

import asyncio
import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from proxy.net import packets
from proxy.net.packets import Channel, Message

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    one, other = packets.pair()
    yield one, other
    one.close()
    other.close()


@pytest.mark.parametrize("size", [0, 1, packets.PACKET_BYTES - 100, packets.PACKET_BYTES, 5_000_000])
def test_any_size_arrives_whole(pair: Pair, size: int) -> None:
    packets.send(pair[0], {"text": "x" * size})
    assert packets.receive(pair[1]) == ({"text": "x" * size}, None)
    with pytest.raises(BlockingIOError):
        packets.receive(pair[1])


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_descriptor_travels_along(pair: Pair, size: int) -> None:
    fd = packets.sealed("test", b"contents")
    packets.send(pair[0], {"text": "x" * size}, fd)
    os.close(fd)
    message, received = packets.receive(pair[1])
    assert len(message["text"]) == size
    assert received is not None
    assert packets.unsealed(received) == b"contents"
    assert fcntl.fcntl(received, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(received)


def test_what_is_sealed_never_changes() -> None:
    fd = packets.sealed("test", b"contents")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"C", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)


@pytest.mark.parametrize("packet", [b"J[]", b"J", b"J{", b"L{}", b"Jnull", b"x" * (packets.PACKET_BYTES + 50)])
def test_what_is_no_message_is_a_value_error(pair: Pair, packet: bytes) -> None:
    pair[0].send(packet)
    with pytest.raises(ValueError, match=r"."):
        packets.receive(pair[1])


def test_unwanted_descriptors_are_closed(pair: Pair) -> None:
    read, write = os.pipe()
    socket.send_fds(pair[0], [b"J["], [write])
    os.close(write)
    with pytest.raises(ValueError, match=r"."):
        packets.receive(pair[1])
    assert os.read(read, 1) == b"", "a copy of the writing end is still open"
    os.close(read)


def test_the_end_is_eof(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(EOFError):
        packets.receive(pair[1])


# ---------------------------------------------------------------- Channel


async def until(condition: object, limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not condition():  # type: ignore[operator]  # noqa: ASYNC110
            await asyncio.sleep(0)


def test_messages_keep_their_order_behind_a_slow_reader(pair: Pair) -> None:
    async def main() -> None:
        heard: list[int] = []
        sender = Channel(pair[0], lambda message, fd: None)
        for n in range(500):
            sender.send({"n": n, "pad": "x" * 10_000})  # far more than the socket holds
        receiver = Channel(pair[1], lambda message, fd: heard.append(message["n"]))
        await until(lambda: len(heard) == 500)
        assert heard == list(range(500))
        assert sender.dropped == 0
        sender.close()
        receiver.close()

    asyncio.run(main())


def test_a_reader_that_never_reads_costs_a_bounded_queue(pair: Pair) -> None:
    async def main() -> None:
        sender = Channel(pair[0], lambda message, fd: None)
        for n in range(packets.QUEUE_MESSAGES * 2):
            sender.send({"n": n, "pad": "x" * 1000}, packets.sealed("test", b""))
        assert sender.dropped > 0
        assert len(os.listdir("/proc/self/fd")) < packets.QUEUE_MESSAGES + 100  # noqa: PTH208
        heard: list[Message] = []

        def take(message: Message, fd: int | None) -> None:
            heard.append(message)
            assert fd is not None
            os.close(fd)

        receiver = Channel(pair[1], take)
        await until(lambda: heard and heard[-1]["n"] == packets.QUEUE_MESSAGES * 2 - 1)
        sender.close()
        receiver.close()

    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    asyncio.run(main())
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_the_end_is_told_once(pair: Pair) -> None:
    async def main() -> None:
        ends: list[str] = []
        channel = Channel(pair[0], lambda message, fd: None, lambda: ends.append("end"))
        pair[1].close()
        await until(lambda: ends)
        channel.send({"to": "nobody"})
        channel.close()
        assert ends == ["end"]

    asyncio.run(main())


def test_a_message_that_cannot_be_read_does_not_stop_the_next(pair: Pair) -> None:
    async def main() -> None:
        heard: list[Message] = []
        channel = Channel(pair[1], lambda message, fd: heard.append(message))
        pair[0].send(b"J{{{")
        packets.send(pair[0], {"n": 1})
        await until(lambda: heard)
        assert heard == [{"n": 1}]
        channel.close()

    asyncio.run(main())
