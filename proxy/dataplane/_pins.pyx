"""Pins: what binds a client to its server connection, since when, at what cost, and how that ends.

A pin is a bit by PinReason in `Client.pins`; why the first of them was set, and since when, is in a `Pin`. Pins end in two ways.
What is certain from a text (DISCARD ALL, RESET ALL …) ends when the transaction in which it was done is kept (the engine tells).
Everything else ends by an audit: while its client rests, the server itself is asked what is left, at once behind
a text after which something may be gone (an unlock, UNLISTEN, DROP …), and once for every rest of `pin_audit_after`. What the
server says is not there any more pins no longer; what it cannot be asked for (a seed, a loaded library) pins for good.

An audit is a request of the proxy's own, between two of the client's: what the client sends behind it may pin anew, and is not
ended by an answer that came before (`Pin.asked`).
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free

from proxy._reasons cimport PinReason
from proxy.dataplane._events cimport EVENT_PINNED, EVENT_UNPINNED, tell
from proxy.dataplane._state cimport Client, Pin, Relay_, Server, list_append, list_init, list_remove
from proxy.shm._fields cimport (
    TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED, TG_PIN_AUDITS, TG_PINNED_IDLE_MICROSECONDS, TG_PINS, TG_PINS_ENDED,
    TG_PINS_IGNORED, TG_PINS_REFUSED,
)
from proxy.shm._segment cimport word_add
from proxy.sql._effects cimport EFFECT_UNKNOWN

cdef enum Bounds_:
    DIGEST_OF = 8192             # bytes of a text
    VAIN_MS = 10                 # after an audit in vain the next one waits for so long, each time twice as long
    VAIN_DOUBLINGS = 12

cdef uint64_t PINS = 0xFFFFFFFF


cdef void _count(Client *c, int field, uint64_t reasons) noexcept nogil:
    cdef int i
    for i in range(1, PinReason.PIN_REASON_COUNT):
        if reasons >> i & 1:
            word_add(c.pool.target.tg + field + i, 1)


cdef Pin *_begin(Relay_ *r, Client *c, uint64_t reasons, const uint8_t *text, Py_ssize_t n) noexcept nogil:
    """NULL without memory: it is pinned, and nobody will know why."""
    cdef Pin *pin = <Pin*>calloc(1, sizeof(Pin))
    cdef int i
    if pin == NULL:
        return NULL
    list_init(&pin.place)
    list_append(&r.pinned, &pin.place)
    pin.client = c
    pin.since = r.now
    for i in range(1, PinReason.PIN_REASON_COUNT):
        if reasons >> i & 1:
            pin.reason = <uint8_t>i
            break
    if text != NULL:
        pin.digest_size = c.engine.digest(c, text, min(n, DIGEST_OF), &pin.digest[0], sizeof(pin.digest))
    tell(r, EVENT_PINNED, c.slot, c.server.id, pin.reason, &pin.digest[0], pin.digest_size)
    return pin


cdef void pins_cause(Relay_ *r, Client *c, uint64_t reasons, const uint8_t *text, Py_ssize_t n) noexcept nogil:
    """`reasons`: bits by PinReason, of what goes to the server now or has been done there by `text` (NULL: not at hand)."""
    cdef uint64_t fresh
    if c.server == NULL:
        return
    reasons &= PINS
    if reasons & c.pool.ignored:
        _count(c, TG_PINS_IGNORED, reasons & c.pool.ignored)
        reasons &= ~c.pool.ignored
    if c.pin != NULL:
        c.pin.asked &= ~reasons
    c.engine.pinned(c, reasons)
    fresh = reasons & ~c.pins
    if fresh == 0:
        return
    if c.pins == 0:
        c.pin = _begin(r, c, fresh, text, n)
    c.pins |= fresh
    _count(c, TG_PINS, fresh)
    if not c.server.pinned:
        c.server.pinned = 1
        word_add(c.pool.target.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED, 1)


cdef void pins_end(Relay_ *r, Client *c, uint64_t reasons) noexcept nogil:
    """Of these nothing is left."""
    cdef Pin *pin = c.pin
    reasons &= c.pins
    if reasons == 0 or c.server == NULL:
        return
    c.pins &= ~reasons
    _count(c, TG_PINS_ENDED, reasons)
    if c.pins:
        return
    c.server.pinned = 0
    word_add(c.pool.target.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED, -1)
    tell(r, EVENT_UNPINNED, c.slot, c.server.id, <int64_t>((r.now - pin.since) // 1000000) if pin != NULL else 0, NULL, 0)
    pins_forget(r, c)


cdef void pins_forget(Relay_ *r, Client *c) noexcept nogil:
    """It is pinned no longer, or is gone."""
    cdef Pin *pin = c.pin
    if pin == NULL:
        return
    pins_work(r, c)
    list_remove(&pin.place)
    free(pin)
    c.pin = NULL


cdef int pins_refused(Client *c, uint64_t touches, const Effects *effects) noexcept nogil:
    """The PinReason for which the pool does not let such a text through, counted; 0: it does."""
    cdef int i
    if c.pool.refused == 0:
        return 0
    if effects != NULL and effects.has & 1 << <int>EFFECT_UNKNOWN:
        touches |= <uint64_t>1 << <int>PinReason.PIN_SETTING
    touches &= c.pool.refused
    for i in range(1, PinReason.PIN_REASON_COUNT):
        if touches >> i & 1:
            word_add(c.pool.target.tg + TG_PINS_REFUSED + i, 1)
            return i
    return 0


cdef void pins_rest(Relay_ *r, Client *c) noexcept nogil:
    """Its server has nothing to do and would be given back but for the pin."""
    if c.pin != NULL and c.pin.rests_since == 0:
        c.pin.rests_since = r.now


cdef void pins_work(Relay_ *r, Client *c) noexcept nogil:
    """… has something to do again."""
    cdef Pin *pin = c.pin
    cdef uint64_t rested
    if pin == NULL or pin.rests_since == 0:
        return
    rested = r.now - pin.rests_since
    pin.rests_since = 0
    pin.rested += rested
    word_add(c.pool.target.tg + TG_PINNED_IDLE_MICROSECONDS + pin.reason, rested // 1000)


# ---------------------------------------------------------------- audit

cdef bint pins_soon(const Relay_ *r, const Client *c) noexcept nogil:
    """A text has gone by behind which something may be gone."""
    return c.pin != NULL and c.pin.ending and r.now >= c.pin.next_audit


cdef bint pins_later(const Relay_ *r, const Client *c) noexcept nogil:
    """It rests for long enough, and has not been asked in this rest."""
    return (
        c.pool.audit_after and c.pin.rests_since and c.pin.audited_at <= c.pin.rests_since
        and r.now - c.pin.rests_since >= c.pool.audit_after
    )


cdef bint pins_ask(Relay_ *r, Client *c, Server *s, bint thorough) noexcept nogil:
    """Asks, if the answer can end the pin. Nothing is owed, no transaction is open. `thorough`: for changed settings, too."""
    cdef Pin *pin = c.pin
    pin.ending = 0
    if thorough:
        pin.audited_at = r.now
    if c.pins & ~c.engine.askable() or s.cancels or not c.engine.audit(r, c, s, thorough):
        return False
    pin.asked = c.pins
    pin.gone = 0
    pin.audits += 1
    word_add(c.pool.target.tg + TG_PIN_AUDITS, 1)
    return True


cdef void pins_left(Client *c, uint64_t left) noexcept nogil:
    """What an audit has found; nothing else is left."""
    if c.pin != NULL:
        c.pin.gone = c.pin.asked & ~left


cdef void pins_doubt(Client *c) noexcept nogil:
    """What it has found cannot be followed up: nothing ends."""
    if c.pin != NULL:
        c.pin.gone = 0


cdef void pins_answered(Relay_ *r, Client *c, uint64_t still) noexcept nogil:
    """An audit is over. `still`: reasons that hold whatever it has found."""
    cdef Pin *pin = c.pin
    cdef uint64_t gone
    if pin == NULL:
        return
    gone = pin.gone & pin.asked & ~still
    pin.asked = pin.gone = 0
    if gone:
        pin.in_vain = 0
    elif pin.in_vain < VAIN_DOUBLINGS:
        pin.in_vain += 1
    pin.next_audit = r.now + ((<uint64_t>VAIN_MS * 1000000) << pin.in_vain if pin.in_vain else 0)
    pins_end(r, c, gone)
