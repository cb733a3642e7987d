"""Numbers of all workers, summed and named: from the shared-memory segment and a snapshot to a flat list of samples.

The field table says what is counted, the snapshot says whose it is (a slot's proxy and endpoint or target). Counters
and histograms are summed over workers, those that died included; gauges too, for a dead worker's are cleared.
Every format (Prometheus, CloudWatch names, the dashboard) starts from here. Opens nothing and knows no clock.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from proxy import reasons
from proxy.model import Snapshot
from proxy.shm.fields import FIELDS, Field, Kind, Labels, Owner, Scope
from proxy.shm.histogram import Histogram

__all__ = ["Numbers", "Sample", "samples"]


class Numbers(Protocol):
    """The reading half of `shm._segment.Segment`."""

    @property
    def workers(self) -> int: ...

    def read(self, scope: str, index: int, field: str, worker: int | None = None, *, element: int = 0) -> int: ...

    def read_array(self, scope: str, index: int, field: str, worker: int | None = None) -> list[int]: ...

    def histogram(self, scope: str, index: int, field: str, worker: int | None = None) -> Histogram: ...

    def limit(self, target: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One number: which field, whose (label names and values), and the value."""

    field: Field
    labels: Mapping[str, str]
    value: int | float | Histogram


def samples(
    numbers: Numbers, snapshot: Snapshot | None, availability: Mapping[int, float] | None = None
) -> Iterator[Sample]:
    """Every number there is. `availability`: percent of time up, by target slot, where somebody measures it."""
    for field in FIELDS:
        match field.scope:
            case Scope.WORKER:
                for worker in range(numbers.workers):
                    labels = {"worker": str(worker)}
                    yield Sample(field, labels, numbers.read(field.scope.value, 0, field.name, worker))
            case Scope.ENDPOINT:
                for slot, labels in _endpoints(snapshot):
                    yield from _read(numbers, field, slot, labels)
            case Scope.TARGET:
                for slot, labels in _targets(snapshot):
                    if field.owner is Owner.DERIVED:
                        yield from _derived(numbers, field, slot, labels, availability or {})
                    else:
                        yield from _read(numbers, field, slot, labels)


def target_name(host: str, port: int) -> str:
    """A target as every view calls it: host:port, IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _endpoints(snapshot: Snapshot | None) -> Iterator[tuple[int, dict[str, str]]]:
    for proxy in snapshot.proxies if snapshot else ():
        for endpoint in proxy.endpoints:
            yield endpoint.slot, {"proxy": proxy.name, "endpoint": endpoint.name}


def _targets(snapshot: Snapshot | None) -> Iterator[tuple[int, dict[str, str]]]:
    for proxy in snapshot.proxies if snapshot else ():
        for target in proxy.target_group.targets:
            yield target.slot, {"proxy": proxy.name, "target": target_name(target.host, target.port)}


def _read(numbers: Numbers, field: Field, slot: int, labels: dict[str, str]) -> Iterator[Sample]:
    if field.labels is not Labels.NONE:
        names = reason_names(field.labels)
        for element, value in enumerate(numbers.read_array(field.scope.value, slot, field.name)):
            if value and element in names:  # a reason that never occurred has no series
                yield Sample(field, {**labels, "reason": names[element]}, value)
    elif field.kind is Kind.HISTOGRAM:
        yield Sample(field, labels, numbers.histogram(field.scope.value, slot, field.name))
    else:
        yield Sample(field, labels, numbers.read(field.scope.value, slot, field.name))


def _derived(
    numbers: Numbers, field: Field, slot: int, labels: dict[str, str], availability: Mapping[int, float]
) -> Iterator[Sample]:
    if field.name == "max_database_connections_allowed":
        yield Sample(field, labels, numbers.limit(slot))
    elif field.name == "availability_percentage" and slot in availability:
        yield Sample(field, labels, availability[slot])


def reason_names(kind: Labels) -> dict[int, str]:
    """Element of an array field → the reason in lower case, without the enum's prefix."""
    enum: type[IntEnum] = reasons.CloseReason if kind is Labels.CLOSE_REASON else reasons.PinReason
    return {
        int(each): each.name.removeprefix("PIN_").lower()
        for each in enum
        if not each.name.endswith(("_NONE", "_REASON_COUNT"))
    }
