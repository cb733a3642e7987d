"""A file or pipe as it comes, in lines or in pieces, its beginning looked at before: no part of it is kept."""

import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

HEAD = 65_536  # bytes that are looked at to tell what it is
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONGEST = 64 * 1024 * 1024  # bytes of one line or statement; what is longer is not read


# number, text without its end, and whether it is whole: otherwise longer than LONGEST, of which this is the beginning
Line = tuple[int, bytes, bool]


class Found(NamedTuple):
    """What a client sends at once: a statement of a script, a request of a log."""

    line: int  # where it begins
    text: bytes
    whole: bool = True  # False: its end has not been read


class Source:
    def __init__(self, stream: BinaryIO, longest: int = LONGEST) -> None:
        self._stream = stream
        self._longest = longest
        self.head = stream.read(HEAD).removeprefix(_BYTE_ORDER_MARK)
        self.bytes = len(self.head)  # taken from the stream so far
        self._ahead: io.BytesIO | None = io.BytesIO(self.head)  # of what comes next, the part that is already there

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; b"" at the end."""
        found = self._ahead.read(size) if self._ahead is not None else b""
        if not found:
            self._ahead = None
            found = self._stream.read(size)
            self.bytes += len(found)
        return found

    def give_back(self, rest: bytes) -> None:
        """It comes next."""
        self._ahead = io.BytesIO(rest + (self._ahead.read() if self._ahead is not None else b""))

    def lines(self, first: int = 1) -> Iterator[Line]:
        """From where it is, counted from `first`."""
        number = first
        longest = self._longest
        while line := self._line(longest + 1):
            if len(line) <= longest:
                yield number, line.rstrip(b"\r\n"), True
            else:
                yield number, line[:longest], False
                while line and not line.endswith(b"\n"):
                    line = self._line(HEAD)
            number += 1

    def _line(self, size: int) -> bytes:
        found = b""
        if self._ahead is not None:
            found = self._ahead.readline(size)
            if found.endswith(b"\n") or len(found) == size:
                return found
            self._ahead = None
        more = self._stream.readline(size - len(found))
        self.bytes += len(more)
        return found + more if found else more
