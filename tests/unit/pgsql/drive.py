"""Drives a conversation of `proxy.pgsql` without a socket, with its input cut in every way.

A script is a list of turns; a turn is delivered when everything before it has been read, as a real peer would answer.
Each script is played whole, byte by byte, and with each turn cut in two at every place; the outcome must be the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from proxy.errors import ProxyError
from proxy.exchange import Exchange, Hangup, PeerClosed, StartTls
from proxy.pgsql.exchange import Line

Talk = Callable[[Line], Exchange[Any]]


@dataclass
class Outcome:
    sent: bytes
    result: Any
    error: Exception | None
    unread: bytes
    tls_at: int | None  # how much had been sent when TLS began


@dataclass(frozen=True)
class Tls:
    """What the handshake of this test yields."""

    binding: bytes | None = None
    alpn: str | None = None


def play(talk: Talk, chunks: Iterable[bytes], tls: Tls = Tls()) -> Outcome:
    """One conversation; the chunks in order, then end of stream."""
    line, sent, tls_at = Line(), b"", None
    feed = iter(chunks)
    conversation = talk(line)
    try:
        step = next(conversation)
        while True:
            if isinstance(step, StartTls):
                sent += step.answer
                tls_at = len(sent)
                if not step.direct:
                    assert not line.data, "bytes from before the handshake"
                line.take()
                line.encrypted, line.binding, line.alpn = True, tls.binding, tls.alpn
                step = conversation.send(b"")
                continue
            sent += step
            step = conversation.send(next(feed, b""))
    except StopIteration as end:
        return Outcome(sent, end.value, None, line.take() + b"".join(feed), tls_at)
    except (ProxyError, PeerClosed, Hangup) as error:
        return Outcome(sent, None, error, line.take() + b"".join(feed), tls_at)
    except Exception as error:  # noqa: BLE001 - the outcome of a client-side conversation may be any of its own errors
        return Outcome(sent, None, error, line.take() + b"".join(feed), tls_at)


def cuts(turns: list[bytes]) -> Iterable[list[bytes]]:
    """Whole, bytewise, and every turn cut in two everywhere."""
    yield turns
    yield [bytes([byte]) for turn in turns for byte in turn]
    for index, turn in enumerate(turns):
        for at in range(1, len(turn)):
            yield [*turns[:index], turn[:at], turn[at:], *turns[index + 1 :]]


def same(a: Outcome, b: Outcome) -> bool:
    return (
        a.sent == b.sent
        and a.result == b.result
        and type(a.error) is type(b.error)
        and str(a.error) == str(b.error)
        and a.tls_at == b.tls_at
    )


def play_every_way(talk: Talk, turns: list[bytes], tls: Tls = Tls()) -> Outcome:
    """The outcome, which does not depend on how the bytes arrive."""
    first: Outcome | None = None
    for chunks in cuts(turns):
        outcome = play(talk, chunks, tls)
        first = first or outcome
        assert same(first, outcome), f"cut as {[len(chunk) for chunk in chunks][:8]}: {outcome} instead of {first}"
    assert first is not None
    return first
