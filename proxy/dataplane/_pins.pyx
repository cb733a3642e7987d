"""Pins: what binds a client to its server connection, since when, at what cost, and how that ends.

A pin is a bit by PinReason in `Client.pins`; why the first of them was set, and since when, is in a `Pin`. Pins end in two ways.
What is certain from a text (DISCARD ALL, RESET ALL …) ends when the transaction in which it was done is kept (see _virtual).
Everything else ends by an audit: while its client rests, the server itself is asked what is left (see _leftovers), at once behind
a text after which something may be gone (an unlock, UNLISTEN, DROP …), and once for every rest of `pin_audit_after`. What the
server says is not there any more pins no longer; what it cannot be asked for (a seed, a loaded library) pins for good.

An audit is a request of the proxy's own, between two of the client's: what the client sends behind it may pin anew, and is not
ended by an answer that came before (`Pin.asked`).
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr

from proxy._reasons cimport PinReason
from proxy._wire cimport IoBuf, iobuf_free
from proxy.dataplane._chan cimport chan_send
from proxy.dataplane._events cimport EVENT_PINNED, EVENT_UNPINNED, tell
from proxy.dataplane._state cimport Client, Pin, Relay_, Server, list_append, list_init, list_remove
from proxy.dataplane._virtual cimport virtual_pinned, virtual_wonder
from proxy.pgsql._leftovers cimport leftovers_answer, leftovers_ask, leftovers_askable
from proxy.pgsql._owed cimport OWED_AUDIT, OWED_QUERY, OWED_SWALLOW, owed_request
from proxy.pgsql._params cimport params_get
from proxy.shm._fields cimport (
    TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED, TG_PIN_AUDITS, TG_PINNED_IDLE_MICROSECONDS, TG_PINS, TG_PINS_ENDED,
    TG_PINS_IGNORED, TG_PINS_REFUSED,
)
from proxy.shm._segment cimport word_add
from proxy.sql._digest cimport sql_digest
from proxy.sql._effects cimport EFFECT_UNKNOWN
from proxy.sql._lex cimport POSTGRESQL

cdef enum Bounds_:
    DIGEST_OF = 8192             # bytes of a text
    VAIN_MS = 10                 # after an audit in vain the next one waits for so long, each time twice as long
    VAIN_DOUBLINGS = 12

cdef uint64_t PINS = 0xFFFFFFFF
cdef uint64_t TEMPORARY = <uint64_t>1 << <int>PinReason.PIN_TEMPORARY_OBJECT


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
        pin.digest_size = <int>sql_digest(
            text, min(n, DIGEST_OF), POSTGRESQL, c.fe.std_strings, &pin.digest[0], sizeof(pin.digest),
        )
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
    virtual_pinned(c, reasons)
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
    cdef IoBuf query
    cdef bint sent = False
    pin.ending = 0
    if thorough:
        pin.audited_at = r.now
    if c.pins & ~leftovers_askable() or s.cancels:
        return False
    query.data = NULL
    query.pos = query.end = query.cap = 0
    if leftovers_ask(c.pins, thorough and not c.pool.init_opaque, &query) == 0 and (
        owed_request(&s.be.owed, OWED_QUERY | OWED_SWALLOW, OWED_AUDIT) == 0
    ):
        chan_send(&s.ch, query.data, query.end)
        s.unnamed = 0            # a Query destroys it
        pin.asked = c.pins
        pin.gone = 0
        pin.audits += 1
        word_add(c.pool.target.tg + TG_PIN_AUDITS, 1)
        sent = True
    iobuf_free(&query)
    return sent


cdef void pins_answer(Relay_ *r, Client *c, const uint8_t *row, Py_ssize_t n) noexcept nogil:
    """The DataRow of an audit."""
    cdef Pin *pin = c.pin
    cdef uint64_t left
    cdef const uint8_t *name
    cdef const uint8_t *end
    cdef const uint8_t *comma
    cdef Py_ssize_t size, m
    if not leftovers_answer(row, n, &left, &name, &size):
        return
    pin.gone = pin.asked & ~left
    end = name + size
    while name != NULL and name < end:
        comma = <const uint8_t*>memchr(name, 0x2C, end - name)
        if comma == NULL:
            comma = end
        if params_get(c.server.now, <const char*>name, comma - name, &m) == NULL and not virtual_wonder(r, c, name, comma - name):
            pin.gone = 0         # without memory
        name = comma + 1


cdef void pins_answered(Relay_ *r, Client *c) noexcept nogil:
    """ReadyForQuery of an audit."""
    cdef Pin *pin = c.pin
    cdef uint64_t gone
    if pin == NULL:
        return
    gone = pin.gone & pin.asked
    if c.temporary:
        gone &= ~TEMPORARY       # the next thing that it creates may be one
    pin.asked = pin.gone = 0
    if gone:
        pin.in_vain = 0
    elif pin.in_vain < VAIN_DOUBLINGS:
        pin.in_vain += 1
    pin.next_audit = r.now + ((<uint64_t>VAIN_MS * 1000000) << pin.in_vain if pin.in_vain else 0)
    pins_end(r, c, gone)
