"""MySQL's packets in a cold conversation (see `proxy/exchange.py`): three bytes of length, a sequence id, a payload.

Source: MySQL source documentation, "MySQL Packets" (page_protocol_basic_packets).
"""

from proxy.errors import ProtocolViolation
from proxy.exchange import Stream

MAX_AUTH_PACKET = 65_536  # of a login: user, database, plugin data, up to 64 KiB of attributes
MAX_PAYLOAD = 0xFFFFFF  # a payload of this size is continued in another packet


class Line(Stream):
    """`sequence`: what the next packet must carry; both sides count with it within one exchange."""

    __slots__ = ("sequence",)

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self.sequence = 0

    def packet(self, limit: int = MAX_AUTH_PACKET) -> bytes | None:
        """The payload of the next whole packet, or None while it is incomplete. `limit` bounds what its length may
        claim.
        """
        data = self.data
        if len(data) < 4:
            return None
        length = int.from_bytes(data[:3], "little")
        if length > limit:
            raise ProtocolViolation("packet too large")
        if data[3] != self.sequence & 0xFF:
            raise ProtocolViolation("packets out of order")
        if len(data) < 4 + length:
            return None
        self.sequence = (self.sequence + 1) & 0xFF
        self.data = data[4 + length :]
        return data[4 : 4 + length]

    def wrap(self, payload: bytes) -> bytes:
        """One of ours, with the next sequence id."""
        packet = len(payload).to_bytes(3, "little") + bytes((self.sequence,)) + payload
        self.sequence = (self.sequence + 1) & 0xFF
        return packet
