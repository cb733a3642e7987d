"""What the proxy would do with a text, and why, statement by statement: the same reading as the relay's, for people.

Nothing is judged here: `_lex` says what pins, `_effects` what is followed instead, and this page puts it into words.
What only the text as a whole tells (several statements that pin together; effects behind the body of a function, whose
statements nobody can count) is said of the text, not of one of its statements.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from proxy.reasons import PinReason
from proxy.reasons import text as words
from proxy.sql._digest import digest
from proxy.sql._effects import EffectKind, effects, statements
from proxy.sql._lex import DROP_DATABASE, EFFECTS, EMPTY, ENDS, TRANSACTION_END, TRANSACTION_START, Dialect, scan
from proxy.sql.gist import gist
from proxy.sql.split import Piece, split

__all__ = ["IGNORE", "PIN", "REFUSE", "Explanation", "Note", "Pin", "Statement", "explain", "why"]

PIN, IGNORE, REFUSE = "pin", "ignore", "refuse"  # what a policy may say of a reason

# client encodings in which an ASCII byte may be a part of another character, as PostgreSQL spells them, `_` left out
_HIDING = {"SJIS", "MSKANJI", "SHIFTJIS", "SHIFTJIS2004", "BIG5", "GBK", "UHC", "GB18030", "JOHAB"} | {
    f"{vendor}{page}" for vendor in ("WIN", "WINDOWS") for page in (932, 936, 949, 950)
}

_REASONS = tuple(reason for reason in PinReason if reason != PinReason.PIN_REASON_COUNT)
_PINS = (1 << PinReason.PIN_REASON_COUNT) - 1
_SETS = re.compile(rb"set", re.IGNORECASE)

_WHY: dict[PinReason, str] = {
    PinReason.PIN_SETTING: "changes settings of the session, and the text does not tell which",
    PinReason.PIN_PREPARED_SQL: "SQL-level PREPARE or EXECUTE: the statement exists in one database connection only",
    PinReason.PIN_TEMPORARY_OBJECT: "a temporary table, view or sequence exists in one database connection only",
    PinReason.PIN_CURSOR: "a cursor WITH HOLD outlives its transaction",
    PinReason.PIN_LISTEN: "notifications reach the database connection that listens",
    PinReason.PIN_LOAD: "loads a library into one server process",
    PinReason.PIN_SEQUENCE: "currval() and lastval() answer for the session that called nextval() or setval()",
    PinReason.PIN_ADVISORY_LOCK: "an advisory lock of the session is held until it is unlocked",
    PinReason.PIN_DO_BLOCK: "a DO block is in another language, which is not read",
    PinReason.PIN_ENCODING: "client_encoding hides ASCII bytes inside of characters, so the text is not read",
    PinReason.PIN_UNREADABLE: "cannot be read for certain: an open quote or comment, or a name in code points",
    PinReason.PIN_FUNCTION: "calls a function, or sets a setting, whose state no statement takes back",
}


def why(reason: PinReason) -> str:
    return _WHY.get(reason) or words(reason)


class Note(Enum):
    """What else there is to say of a statement; the values are what people read."""

    EMPTY = "nothing but blanks and comments"
    LOCAL = "ends with its transaction: nothing to follow"
    DISCARD_ALL = "the session is as at its beginning: settings, prepared statements and pins end here"
    RESET_ALL = "every setting is what the session began with"
    DEALLOCATE_ALL = "all prepared statements are gone"
    ROLLBACK_TO = "what settings were at that savepoint is asked from the server"
    ENDS = "what had pinned may end: checked with the server at once"
    TRANSACTION_START = "a transaction may begin: the database connection is kept until it ends"
    TRANSACTION_END = "a transaction may end: the database connection is given back unless something pins"
    DROP_DATABASE = "idle database connections make way: the database must be free of sessions"
    ENCODING = "later texts of the session are not read, and pin, until client_encoding is another"
    NUL = "has a byte 0: no client can send it"


@dataclass(frozen=True, slots=True)
class Pin:
    reason: PinReason
    policy: str = PIN


@dataclass(frozen=True, slots=True)
class Statement:
    start: int  # its place in the text
    stop: int
    digest: bytes
    pins: tuple[Pin, ...] = ()
    sets: tuple[str, ...] = ()  # settings by name: followed by value and replayed, so no pin
    resets: tuple[str, ...] = ()
    asks: tuple[str, ...] = ()  # followed as well, but only the server knows the value
    deallocates: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def tracked(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.sets, *self.resets, *self.asks)))


@dataclass(frozen=True, slots=True)
class Explanation:
    digest: bytes
    statements: tuple[Statement, ...]
    together: tuple[Pin, ...] = ()  # of the text as a whole, and of no statement alone
    notes: tuple[Note, ...] = ()

    @property
    def pins(self) -> tuple[Pin, ...]:
        """All of them, each once."""
        every = [pin for statement in self.statements for pin in statement.pins]
        return tuple(sorted(set(every) | set(self.together), key=lambda pin: pin.reason))

    @property
    def pinned(self) -> bool:
        return not self.refused and any(pin.policy == PIN for pin in self.pins)

    @property
    def refused(self) -> bool:
        return any(pin.policy == REFUSE for pin in self.pins)

    @property
    def tracked(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for statement in self.statements for name in statement.tracked))


Effect = tuple[EffectKind, int, str, bytes]


def explain(
    text: bytes,
    *,
    std_strings: bool = True,
    ascii_safe: bool = True,
    policy: Mapping[PinReason, str] | None = None,
    dialect: Dialect = Dialect.POSTGRESQL,
) -> Explanation:
    """`ascii_safe`: False in the client encodings of which `_lex` reads nothing. `policy`: a reason not in it pins.

    Of MySQL's dialects only what pins is told: their settings are not followed yet.
    """
    rules = policy or {}
    notes: tuple[Note, ...] = (Note.NUL,) if b"\0" in text else ()
    mask, _ = scan(text, std_strings, ascii_safe, (), dialect)
    if not ascii_safe:
        # not a byte of it is printed: what is a literal is not known
        return Explanation(b"...", (), _pins(_reasons(mask), rules), notes)
    # without that bit the relay does not look for them: PREPARE … AS SELECT set_config(…) pins by something else
    looks = bool(mask & EFFECTS) and dialect == Dialect.POSTGRESQL
    found = effects(text, std_strings) if looks else []
    pieces = split(text, std_strings=std_strings, dialect=dialect)
    numbered = dialect == Dialect.POSTGRESQL and _numbered(text, std_strings, len(pieces), found)
    explained: list[Statement] = []
    for number, piece in enumerate(pieces):
        own = [effect for effect in found if effect[1] == number] if numbered else None
        explained.append(_statement(text, piece, own, mask, std_strings, rules, dialect))
    alone = {pin.reason for statement in explained for pin in statement.pins}
    whole = _reasons(mask) | _unknown(found)
    if mask & EMPTY:
        notes += (Note.EMPTY,)
    if len(explained) == 1:  # without the `;`
        shown = explained[0].digest
    else:
        shown = digest(text.rstrip(b"; \t\r\n"), dialect, std_strings)
    return Explanation(shown, tuple(explained), _pins(whole - alone, rules), notes)


def _numbered(text: bytes, std_strings: bool, pieces: int, found: Iterable[Effect]) -> bool:
    """Whether an effect's number is that of a piece."""
    count = statements(text, std_strings)
    return count == pieces or (count < 0 and all(number < pieces for _, number, _, _ in found))


def _reasons(mask: int) -> set[PinReason]:
    return {reason for reason in _REASONS if mask >> reason & 1} if mask & _PINS else set()


def _unknown(found: Iterable[Effect]) -> set[PinReason]:
    """What effects pin by: a name is there where nothing takes the change back."""
    return {
        PinReason.PIN_FUNCTION if name else PinReason.PIN_SETTING
        for kind, _, name, _ in found
        if kind == EffectKind.EFFECT_UNKNOWN
    }


def _pins(reasons: Iterable[PinReason], policy: Mapping[PinReason, str]) -> tuple[Pin, ...]:
    return tuple(Pin(reason, policy.get(reason, PIN)) for reason in sorted(reasons))


def _statement(
    text: bytes,
    piece: Piece,
    told: list[Effect] | None,
    whole: int,
    std_strings: bool,
    policy: Mapping[PinReason, str],
    dialect: Dialect,
) -> Statement:
    """`told`: its effects, None if they are not known. `whole`: the mask of the text; no statement does more."""
    alone = text[piece.start : piece.stop]
    mask, _ = scan(alone, std_strings, True, (), dialect)
    silent = told == [] and not mask & ~whole & EFFECTS
    mask &= whole
    found = told or []
    notes = list(_notes(mask, found))
    if silent and not _reasons(mask) and _changes(alone, std_strings):
        notes.append(Note.LOCAL)

    def named(kind: EffectKind) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for each, _, name, _ in found if each == kind))

    return Statement(
        piece.start,
        piece.stop,
        digest(alone, dialect, std_strings),
        _pins(_reasons(mask) | _unknown(found), policy),
        named(EffectKind.EFFECT_SET),
        named(EffectKind.EFFECT_RESET),
        named(EffectKind.EFFECT_ASK),
        named(EffectKind.EFFECT_DEALLOCATE),
        tuple(notes),
    )


_BY_EFFECT = {
    EffectKind.EFFECT_DISCARD_ALL: Note.DISCARD_ALL,
    EffectKind.EFFECT_RESET_ALL: Note.RESET_ALL,
    EffectKind.EFFECT_DEALLOCATE_ALL: Note.DEALLOCATE_ALL,
    EffectKind.EFFECT_ROLLBACK_TO: Note.ROLLBACK_TO,
}
_BY_BIT = {
    ENDS: Note.ENDS,
    TRANSACTION_START: Note.TRANSACTION_START,
    TRANSACTION_END: Note.TRANSACTION_END,
    DROP_DATABASE: Note.DROP_DATABASE,
}


def _notes(mask: int, found: list[Effect]) -> Iterable[Note]:
    said = {_BY_EFFECT[kind] for kind, _, _, _ in found if kind in _BY_EFFECT}
    yield from sorted(said, key=lambda note: note.name)
    for bit, note in _BY_BIT.items():
        # DISCARD ALL leaves nothing to be asked for; ROLLBACK TO ends no transaction
        implied = Note.DISCARD_ALL if bit == ENDS else Note.ROLLBACK_TO if bit == TRANSACTION_END else None
        if mask & bit and implied not in said:
            yield note
    if any(kind == EffectKind.EFFECT_SET and _hides(name, value) for kind, _, name, value in found):
        yield Note.ENCODING


def _hides(name: str, value: bytes) -> bool:
    plain = value.decode("latin-1").upper().replace("_", "").replace("-", "").replace(" ", "")
    return name == "client_encoding" and plain in _HIDING


def _changes(alone: bytes, std_strings: bool) -> bool:
    """SET, or a call of set_config: with no effect on the session, what it changes is the transaction's."""
    if not _SETS.search(alone):
        return False
    what = gist(alone, std_strings=std_strings)
    return what.first == b"set" or b"set_config" in what.calls
