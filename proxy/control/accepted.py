"""What must outlive any one process: the snapshot in force, what it was built from, and the standing orders.

It lies in a memfd that the supervisor makes before the first fork and never reads. A controller that was killed
goes on with what its predecessor had accepted, although files on disk may have become something else; a worker
that was killed serves again without asking anybody. Like the snapshot in it, it holds secrets, so it is memory
and never a file.

A writer may die at any instruction: new contents go where the old ones are not, then sixteen bytes of head turn
to them. A reader that was overtaken by two writers sees a wrong checksum and reads again.
"""

import os
import pickle
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

from proxy.model import Snapshot

_HEAD = struct.Struct("<QII")  # offset, length, crc32
_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Accepted:
    text: str  # the configuration, as it was read
    snapshot: Snapshot | None = None  # None: before the first start is complete
    version: int = 0  # the last one given out; the snapshot's, unless a reload was under way
    slots: dict[str, Any] = field(default_factory=dict)  # SlotMap in JSON's terms
    metrics_listen: str = ""
    # an operator's orders, which processes yet to be born must follow too
    drain_until: float | None = None  # of the monotonic clock; None: not draining
    paused: tuple[int, ...] = ()  # target slots; -1: all


class AcceptedFile:
    def __init__(self) -> None:
        self.fd = os.memfd_create("accepted", os.MFD_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def write(self, accepted: Accepted) -> None:
        """By the one controller."""
        body = pickle.dumps(accepted)
        at = _HEAD.size
        old = self._head()
        if old is not None and old[0] - at < len(body):  # in front of the old contents if it fits there, else behind
            at = old[0] + old[1]
        view, to = memoryview(body), at
        while view:
            written = os.pwrite(self.fd, view, to)
            view, to = view[written:], to + written
        os.pwrite(self.fd, _HEAD.pack(at, len(body), zlib.crc32(body)), 0)
        os.ftruncate(self.fd, at + len(body))

    def read(self) -> Accepted | None:
        for _ in range(_ATTEMPTS):
            head = self._head()
            if head is None:
                return None
            at, length, crc = head
            body = os.pread(self.fd, length, at)
            if zlib.crc32(body) == crc:
                accepted = pickle.loads(body)
                assert isinstance(accepted, Accepted)
                return accepted
        return None

    def _head(self) -> tuple[int, int, int] | None:
        head = os.pread(self.fd, _HEAD.size, 0)
        return _HEAD.unpack(head) if len(head) == _HEAD.size else None
