"""An explanation as plain data that JSON can carry, and as lines for people. Knows no proxy: findings come in."""

from collections.abc import Iterator, Mapping
from typing import Any

from proxy.admin.printable import printable
from proxy.sql.explain import IGNORE, PIN, REFUSE, Explanation, Note, Pin, Statement, why
from proxy.sql.rds import Rds, RdsReason

Row = dict[str, Any]

_MISLED = "does not pin, and currval() or lastval() may answer for another session"
_FOLLOWED = {
    "sets": "sets {}: followed by value, and put in front of the next request whichever connection serves it",
    "resets": "resets {}: to what the session began with",
    "asks": "changes {} to what only the server knows: it is asked at the end of the transaction",
    "deallocates": "deallocates {}: the prepared statement is forgotten here too",
}


def row(found: Explanation, verdict: Rds) -> Row:
    """Names in lower case are for scripts, texts for people."""
    return {
        "outcome": "refused" if found.refused else "pinned" if found.pinned else "free",
        "digest": printable(found.digest),
        "statements": [_statement(one) for one in found.statements],
        "together": [_pin(pin) for pin in found.together],
        "notes": [_note(note) for note in found.notes],
        "rds_proxy": {
            "pins": [_reason(reason) for reason in verdict.pins],
            "unclear": [_reason(reason) for reason in verdict.unclear],
            "misled": verdict.misled,
        },
    }


def _statement(one: Statement) -> Row:
    return {
        "digest": printable(one.digest),
        "pins": [_pin(pin) for pin in one.pins],
        **{verb: [printable(name) for name in getattr(one, verb)] for verb in _FOLLOWED},
        "notes": [_note(note) for note in one.notes],
    }


def _pin(pin: Pin) -> Row:
    return {"reason": pin.reason.name.removeprefix("PIN_").lower(), "policy": pin.policy, "text": why(pin.reason)}


def _note(note: Note) -> Row:
    return {"note": note.name.lower(), "text": note.value}


def _reason(reason: RdsReason) -> Row:
    return {"reason": reason.name.lower(), "text": reason.value}


# ---------------------------------------------------------------- for people

_POLICIES = {PIN: "pins", IGNORE: "would pin, ignored by pin_policy", REFUSE: "refused by pin_policy"}
_OUTCOMES = {"free": "does not pin", "pinned": "pins", "refused": "is refused"}


def lines(data: Mapping[str, Any]) -> Iterator[str]:
    """Of a `row`, which may have come from another version of this program."""
    for number, one in enumerate(data["statements"], 1):
        yield f"{number}  {one['digest']}"
        said = [*_of_pins(one["pins"]), *_of_settings(one), *(note["text"] for note in one["notes"])]
        yield from (f"     {line}" for line in said or ["nothing of it stays in the session"])
    for line in (*_of_pins(data["together"]), *(note["text"] for note in data["notes"])):
        yield f"as a whole: {line}"
    name = f" by proxy {data['proxy']}" if "proxy" in data else ""
    outcome = _OUTCOMES.get(data["outcome"], data["outcome"])
    yield f"Sluiceway: {outcome}{name}"
    yield f"RDS Proxy: {'; '.join(of_rds(data['rds_proxy'])) or 'does not pin'}"


def _of_pins(pins: list[Row]) -> Iterator[str]:
    for pin in pins:
        yield f"{_POLICIES.get(pin['policy'], pin['policy'])}: {pin['reason']}: {pin['text']}"


def _of_settings(one: Mapping[str, Any]) -> Iterator[str]:
    for verb, sentence in _FOLLOWED.items():
        if one[verb]:
            yield sentence.format(", ".join(one[verb]))


def of_rds(verdict: Mapping[str, Any]) -> Iterator[str]:
    for reason in verdict["pins"]:
        yield f"pins: {reason['text']}"
    for reason in verdict["unclear"]:
        yield f"may pin: {reason['text']}"
    if verdict["misled"] and not verdict["pins"]:
        yield _MISLED
