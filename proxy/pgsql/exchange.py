"""PostgreSQL's messages in a cold conversation (see `proxy/exchange.py`): a type byte, a length, a body."""

from proxy.errors import ProtocolViolation
from proxy.exchange import Stream

# PostgreSQL takes 65,535 bytes of token and 1,024 of SASL; tokens of the cloud providers stay below 8 KiB.
MAX_AUTH_MESSAGE = 16_384
MAX_STARTUP_PACKET = 10_000  # PostgreSQL's MAX_STARTUP_PACKET_LENGTH


class Line(Stream):
    __slots__ = ()

    def message(self, limit: int) -> tuple[int, bytes] | None:
        """The next whole message as (type, body), or None while it is incomplete. `limit` bounds what its length may
        claim.
        """
        data = self.data
        if len(data) < 5:
            return None
        length = int.from_bytes(data[1:5])
        if length < 4 or length > limit:
            raise ProtocolViolation("invalid message length")
        if len(data) <= length:
            return None
        self.data = data[length + 1 :]
        return data[0], data[5 : length + 1]
