"""What must outlive the controller: accepted configuration, slot map, version, standing orders, in a memfd that is inherited.

The supervisor makes it before the first fork and never reads it again; a controller that was killed finds here what its
predecessor had accepted, although the file on disk may have become something else meanwhile. The text holds references to
secrets, never secrets. A writer may die at any instruction: new contents go where the old ones are not, then sixteen bytes
of head turn to them.
"""

import os
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import orjson

_HEAD = struct.Struct("<QII")  # offset, length, crc32


@dataclass(frozen=True, slots=True)
class Accepted:
    text: str  # the configuration, as it was read
    slots: dict[str, Any] = field(default_factory=dict)  # SlotMap in JSON's terms
    version: int = 0  # of the last snapshot published; 0: none yet
    draining: bool = False  # an operator's orders, which a restarted process must follow too
    paused: tuple[int, ...] = ()  # target slots; -1: all


class AcceptedFile:
    def __init__(self) -> None:
        self.fd = os.memfd_create("accepted", os.MFD_CLOEXEC)

    def close(self) -> None:
        os.close(self.fd)

    def write(self, accepted: Accepted) -> None:
        body = orjson.dumps(accepted)
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
        head = self._head()
        if head is None:
            return None
        at, length, crc = head
        body = os.pread(self.fd, length, at)
        if zlib.crc32(body) != crc:
            return None
        content = orjson.loads(body)
        return Accepted(**{**content, "paused": tuple(content["paused"])})

    def _head(self) -> tuple[int, int, int] | None:
        head = os.pread(self.fd, _HEAD.size, 0)
        return _HEAD.unpack(head) if len(head) == _HEAD.size else None
