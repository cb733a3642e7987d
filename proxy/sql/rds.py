"""What would pin Amazon RDS Proxy with the same text (PostgreSQL), as its documentation lists it.

Source: "Avoiding pinning an RDS Proxy", its log messages as users published them. Its parser is not known: where the
documentation is silent or contradicts itself, the verdict is `unclear`, not a guess. A pin of RDS Proxy lasts until the
client disconnects, so there is no "ends" here.
"""

import re
from dataclasses import dataclass
from enum import Enum

from proxy.reasons import PinReason
from proxy.sql._lex import EFFECTS, scan
from proxy.sql.gist import Gist, gist
from proxy.sql.split import split

__all__ = ["TEXT_LIMIT", "Rds", "RdsReason", "rds"]

TEXT_LIMIT = 16384  # bytes


class RdsReason(Enum):
    """The values are what people read; RDS Proxy's own sentence where one is known."""

    SETTING = "SQL changed session settings that the proxy doesn't track: SET, RESET or set_config()"
    PREPARED_SQL = "Running a prepared statement: SQL-level PREPARE, EXECUTE or DEALLOCATE"
    DISCARD = "DISCARD"
    TEMPORARY_OBJECT = "a temporary table, sequence or view"
    CURSOR = "DECLARE of a cursor"
    LISTEN = "LISTEN"
    LOAD = "LOAD of a library"
    SEQUENCE = "nextval() or setval()"
    ADVISORY_LOCK = "an advisory lock of the session"
    SIZE = "The connection ran a SQL query which exceeded the 16384 byte limit"
    # unclear
    LOCAL_SETTING = "SET LOCAL: no exemption is documented"
    TRANSACTION_SETTING = "SET TRANSACTION or SET CONSTRAINTS: not documented"
    UNREADABLE = "cannot be read for certain"


@dataclass(frozen=True, slots=True)
class Rds:
    pins: tuple[RdsReason, ...] = ()
    unclear: tuple[RdsReason, ...] = ()
    misled: bool = False  # currval() and lastval() do not pin it, and may answer for another session


_NOTHING = Rds()
# what the lexer has no bit for: DECLARE, set_config(…, true), SET LOCAL and its like (a comment may stand between)
_HIDDEN = re.compile(rb"declare|set(?:_config|\s*(?:local|transaction|constraints|/\*|--))", re.IGNORECASE)


def rds(text: bytes, *, std_strings: bool = True, mask: int | None = None) -> Rds:
    """`mask`: what the lexer says of the text, if that is known."""
    if mask is None:
        mask, _ = scan(text, std_strings)
    if not mask and len(text) <= TEXT_LIMIT and not _HIDDEN.search(text):
        return _NOTHING
    pins: set[RdsReason] = set()
    unclear: set[RdsReason] = set()
    misled = False
    if len(text) > TEXT_LIMIT:
        pins.add(RdsReason.SIZE)
    for piece in split(text, std_strings=std_strings):
        alone = text[piece.start : piece.stop]
        own, _ = scan(alone, std_strings)
        what = gist(alone, std_strings=std_strings)
        pins |= _pins(own, what)
        unclear |= _unclear(own, what)
        misled = misled or not {b"currval", b"lastval"}.isdisjoint(what.calls)
    return Rds(_ordered(pins), _ordered(unclear), misled)


def _ordered(reasons: set[RdsReason]) -> tuple[RdsReason, ...]:
    return tuple(reasons) if len(reasons) < 2 else tuple(reason for reason in RdsReason if reason in reasons)


def _has(mask: int, reason: PinReason) -> bool:
    return bool(mask >> reason & 1)


def _pins(mask: int, what: Gist) -> set[RdsReason]:
    found = set()
    if (what.first == b"set" and mask & EFFECTS) or what.first == b"reset" or b"set_config" in what.calls:
        found.add(RdsReason.SETTING)
    if _has(mask, PinReason.PIN_PREPARED_SQL) or what.first == b"deallocate":
        found.add(RdsReason.PREPARED_SQL)
    if what.first == b"discard":
        found.add(RdsReason.DISCARD)
    # the lexer pins by every mention of pg_temp; documented is only what creates
    if _has(mask, PinReason.PIN_TEMPORARY_OBJECT) and (what.temporary or what.first == b"create"):
        found.add(RdsReason.TEMPORARY_OBJECT)
    if what.first == b"declare":
        found.add(RdsReason.CURSOR)
    if _has(mask, PinReason.PIN_LISTEN):
        found.add(RdsReason.LISTEN)
    if _has(mask, PinReason.PIN_LOAD):
        found.add(RdsReason.LOAD)
    if not {b"nextval", b"setval"}.isdisjoint(what.calls):
        found.add(RdsReason.SEQUENCE)
    if _has(mask, PinReason.PIN_ADVISORY_LOCK):
        found.add(RdsReason.ADVISORY_LOCK)
    return found


def _unclear(mask: int, what: Gist) -> set[RdsReason]:
    found = set()
    if what.first == b"set" and not mask & EFFECTS:
        found.add(RdsReason.LOCAL_SETTING if what.second == b"local" else RdsReason.TRANSACTION_SETTING)
    if _has(mask, PinReason.PIN_UNREADABLE):
        found.add(RdsReason.UNREADABLE)
    return found
