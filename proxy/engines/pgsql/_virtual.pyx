"""The virtual session: what a client believes its session to be, and how an interchangeable server is made to agree.

Two sets of settings are followed side by side, the client's and its server's. Both change when a statement that changes
settings is *complete*, as its CommandComplete says, and both obey the transaction: at its end they are kept or taken back. They
differ in one thing only: RESET leads the server to the settings of its login, the client to those it began with. Where they
differ, the difference is put in front of the client's next message (`virtual_align`).

What a text does is read once (`_effects`). What it does not tell (an expression, ROLLBACK TO) is asked from the server, unseen,
as soon as the transaction is over and before the server is given back (`virtual_ask`). Names nobody can list pin.

The server's own reports overrule the text: at the end of a transaction the settings that it reports are what it said.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memmove

from proxy._reasons cimport CloseReason, PinReason
from proxy._wire cimport IoBuf, Reader, iobuf_free, iobuf_put, read_bytes, read_u16, read_u32, reader
from proxy.dataplane._chan cimport chan_send
from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.engines.pgsql._state cimport Flight, PgClient, PgServer, pg_server, tables
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport OWED_ASK, OWED_EFFECT, OWED_QUERY, OWED_REPLAY, OWED_SWALLOW, owed_request
from proxy.pgsql._params cimport (
    Item, ParamSet, params_difference, params_drop, params_get, params_next, params_put, params_share, params_with, params_without,
)
from proxy.pgsql._settings cimport (
    settings_apart, settings_ask, settings_meaning, settings_readable, settings_replay, settings_reported, settings_tell,
    settings_temporary,
)
from proxy.pgsql._statements cimport (
    ASCII_SAFE, NAME_PRESENT, OF_QUERY, STD_STRINGS, Statement, known_free, known_remove, names_clear, names_clearing, names_look,
    names_remove, statement_drop, statement_intern,
)
from proxy.shm._fields cimport TG_SETTINGS_REPLAYS
from proxy.shm._segment cimport word_add
from proxy.sql._effects cimport (
    EFFECT_ASK, EFFECT_DEALLOCATE, EFFECT_DEALLOCATE_ALL, EFFECT_DISCARD_ALL, EFFECT_DISCARD_SEQUENCES, EFFECT_RESET,
    EFFECT_RESET_ALL, EFFECT_ROLLBACK_TO, EFFECT_SET, Effect, effects_next, effects_read,
)

cdef uint64_t SETTING = <uint64_t>1 << <int>PinReason.PIN_SETTING
cdef uint64_t ALL = 0xFFFFFFFF
cdef uint64_t FUNCTION = <uint64_t>1 << <int>PinReason.PIN_FUNCTION
cdef uint64_t TEMPORARY = <uint64_t>1 << <int>PinReason.PIN_TEMPORARY_OBJECT
cdef uint64_t SEQUENCE = <uint64_t>1 << <int>PinReason.PIN_SEQUENCE
cdef uint64_t PREPARED = <uint64_t>1 << <int>PinReason.PIN_PREPARED_SQL
# what DISCARD ALL leaves nothing of
cdef uint64_t DISCARDED = (
    SETTING | PREPARED | <uint64_t>1 << <int>PinReason.PIN_ROLE | <uint64_t>1 << <int>PinReason.PIN_PREPARED_PROTOCOL
    | TEMPORARY | <uint64_t>1 << <int>PinReason.PIN_CURSOR
    | <uint64_t>1 << <int>PinReason.PIN_LISTEN | SEQUENCE
    | <uint64_t>1 << <int>PinReason.PIN_ADVISORY_LOCK | <uint64_t>1 << <int>PinReason.PIN_DO_BLOCK
)
# … and after which only this client is known to be clean, not the server
cdef uint64_t OPAQUE = <uint64_t>1 << <int>PinReason.PIN_UNREADABLE | <uint64_t>1 << <int>PinReason.PIN_ENCODING


cdef enum:
    CLEARS = 1 << <int>EFFECT_DISCARD_ALL | 1 << <int>EFFECT_DEALLOCATE_ALL


# ---------------------------------------------------------------- sets

cdef inline void _move(Relay_ *r, ParamSet **to, ParamSet *what) noexcept nogil:
    """`to` shares `what` from here on."""
    cdef ParamSet *old = to[0]
    to[0] = params_share(what)
    params_drop(&tables(r).params, old)


cdef inline bint _put(
    Relay_ *r, ParamSet **to, const uint8_t *name, Py_ssize_t n, const uint8_t *value, Py_ssize_t m,
) noexcept nogil:
    cdef Py_ssize_t size
    cdef const uint8_t *old = params_get(to[0], <const char*>name, n, &size)
    cdef ParamSet *made
    if old != NULL and size == m and memcmp(old, value, m) == 0:
        return True              # a needless SET, as poolers send them
    made = params_put(&tables(r).params, to[0], name, n, value, m)
    if made == NULL:
        return False
    to[0] = made
    return True


cdef inline void _remove(Relay_ *r, ParamSet **of, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    of[0] = params_without(&tables(r).params, of[0], name, n)


cdef void _changed(Relay_ *r, Client *c) noexcept nogil:
    """`now` may be another set."""
    cdef PgClient *pc = <PgClient*>c
    if pc.now == pc.meant:
        return
    _move(r, &pc.meant, pc.now)
    params_drop(&tables(r).params, pc.meaning)
    pc.meaning = settings_meaning(&tables(r).params, pc.now)
    pc.temporary = settings_temporary(pc.now)


cdef bint virtual_begin(Relay_ *r, Client *c, ParamSet *base) noexcept nogil:
    """`base`: one reference, which is the client's from here on."""
    cdef PgClient *pc = <PgClient*>c
    pc.base = base
    pc.now = params_share(base)
    pc.kept = params_share(base)
    pc.meaning = settings_meaning(&tables(r).params, base)
    pc.meant = params_share(base)
    pc.temporary = settings_temporary(base)
    return True


cdef void virtual_free(Relay_ *r, Client *c) noexcept nogil:
    cdef PgClient *pc = <PgClient*>c
    _move(r, &pc.base, NULL)
    _move(r, &pc.now, NULL)
    _move(r, &pc.kept, NULL)
    _move(r, &pc.meaning, NULL)
    _move(r, &pc.meant, NULL)
    _move(r, &pc.asked, NULL)
    _move(r, &pc.touched, NULL)
    while pc.n_flights:
        _landed(r, c)
    statement_drop(&tables(r).statements, pc.portal)
    pc.portal = NULL


# ---------------------------------------------------------------- borrow

cdef void virtual_told(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """What the server reports and the client has not been told, comes before anything else (edge cases 6 and 44)."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef IoBuf news
    if ps.params == pc.told:
        return
    news.data = NULL
    news.pos = news.end = news.cap = 0
    params_difference(pc.told, ps.params, &news)
    if news.end:
        chan_send(&c.ch, news.data, news.end)
        iobuf_free(&news)
    _move(r, &pc.told, ps.params)
    pc.fe.std_strings = ps.params.std_strings
    pc.fe.ascii_safe = ps.params.ascii_safe


cdef void virtual_attach(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """Where the settings differ, the replay comes first: see virtual_align."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    if ps.now == pc.now:
        virtual_told(r, c, s)


cdef bint virtual_align(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """Appends to `r.scratch` what leads the server to the client's settings. Nothing is owed, no batch is open. False without
    memory."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef bint inside = ps.be.tx_status != p.TX_IDLE
    cdef int messages = settings_replay(ps.now, pc.now, inside, &r.scratch)
    cdef int _i
    if messages < 0:
        return False
    word_add(s.pool.target.tg + TG_SETTINGS_REPLAYS, messages > 0)
    for _i in range(messages):
        if owed_request(&ps.be.owed, OWED_QUERY | OWED_SWALLOW, OWED_REPLAY) < 0:
            return False
    ps.replaying += <uint8_t>messages
    ps.unnamed = 0                # a Query destroys it
    # if it fails, neither of the two goes on: see the head of _settings
    _move(r, &ps.now, pc.now)
    if inside:
        ps.stirred = 1
    else:
        _move(r, &ps.kept, pc.now)
    return True


# ---------------------------------------------------------------- requests whose text has effects

cdef Statement *virtual_text(Relay_ *r, Client *c, const uint8_t *text, Py_ssize_t n) noexcept nogil:
    """The text of a Query with its effects; one reference is the caller's. NULL without memory."""
    cdef PgClient *pc = <PgClient*>c
    cdef bint fresh = False
    cdef uint8_t flags = <uint8_t>((STD_STRINGS if pc.fe.std_strings else 0) | (ASCII_SAFE if pc.fe.ascii_safe else 0) | OF_QUERY)
    cdef Statement *st = statement_intern(&tables(r).statements, text, n, flags, NULL, &fresh)
    if st != NULL and st.effects == NULL:
        st.effects = effects_read(text, n, pc.fe.std_strings)
        if st.effects == NULL:
            statement_drop(&tables(r).statements, st)
            return NULL
    return st


cdef bint virtual_sent(Relay_ *r, Client *c, Statement *text, bint of_query) noexcept nogil:
    """It goes to the server now, its entry in the queue of replies owed marked OWED_EFFECT. Takes over the caller's reference."""
    cdef PgClient *pc = <PgClient*>c
    cdef Flight *grown
    if pc.n_flights == pc.flight_room:
        grown = <Flight*>realloc(pc.flights, (pc.flight_room * 2 + 4) * sizeof(Flight))
        if grown == NULL:
            statement_drop(&tables(r).statements, text)
            return False
        pc.flights = grown
        pc.flight_room = pc.flight_room * 2 + 4
    pc.flights[pc.n_flights].text = text
    pc.flights[pc.n_flights].done = 0
    pc.flights[pc.n_flights].at = 0
    pc.flights[pc.n_flights].of_query = of_query
    pc.flights[pc.n_flights].may_unpin = ALL
    pc.n_flights += 1
    if not of_query and text.effects.has & CLEARS:
        names_clearing(&pc.names)
        known_free(&pg_server(c.server).known)
        pg_server(c.server).uncertain = 1    # if it fails, they are all there still
    return True


cdef void virtual_pinned(Client *c, uint64_t reasons) noexcept nogil:
    """These pins are (again) caused by what goes now: what was sent before it, or stands in the same text, must not end them."""
    cdef PgClient *pc = <PgClient*>c
    cdef uint32_t i
    pc.unpin &= ~reasons
    for i in range(pc.n_flights):
        pc.flights[i].may_unpin &= ~reasons


cdef void _landed(Relay_ *r, Client *c) noexcept nogil:
    cdef PgClient *pc = <PgClient*>c
    if pc.n_flights == 0:
        return
    if not pc.flights[0].of_query and pc.flights[0].text.effects.has & CLEARS and pc.names.clearing:
        pc.names.clearing -= 1
    statement_drop(&tables(r).statements, pc.flights[0].text)
    pc.n_flights -= 1
    if pc.n_flights:
        memmove(pc.flights, pc.flights + 1, pc.n_flights * sizeof(Flight))
    else:
        free(pc.flights)
        pc.flights = NULL
        pc.flight_room = 0


cdef void virtual_lost(Relay_ *r, Client *c) noexcept nogil:
    """The oldest one failed or was skipped."""
    if c != NULL:
        _landed(r, c)


cdef bint virtual_resetting(const Client *c) noexcept nogil:
    """Something under way may lead the server to other settings than this client's: nothing may go behind it."""
    cdef const PgClient *pc = <const PgClient*>c
    cdef uint32_t i
    if pc.base == NULL:
        return False
    for i in range(pc.n_flights):
        if pc.flights[i].text.effects.has & (
            1 << <int>EFFECT_RESET | 1 << <int>EFFECT_RESET_ALL | 1 << <int>EFFECT_DISCARD_ALL
        ):
            return True
    return False


# ---------------------------------------------------------------- what was done

cdef void _touch(Relay_ *r, Client *c, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """For ROLLBACK TO, which takes back what was set behind a savepoint."""
    cdef PgClient *pc = <PgClient*>c
    _put(r, &pc.touched, name, n, b"", 0)


cdef void _touch_all(Relay_ *r, Client *c, const ParamSet *names) noexcept nogil:
    cdef Item one
    cdef Py_ssize_t at = 0
    while params_next(names, &at, &one):
        _touch(r, c, one.name, one.name_size)


cdef bint _keep_identity(Relay_ *r, ParamSet **to, ParamSet *old) noexcept nogil:
    """RESET ALL does not touch who one is."""
    cdef Py_ssize_t n
    cdef const uint8_t *value = params_get(old, b"role", 4, &n)
    if value != NULL and not _put(r, to, b"role", 4, value, n):
        return False
    value = params_get(old, b"session_authorization", 21, &n)
    return value == NULL or _put(r, to, b"session_authorization", 21, value, n)


cdef bint _reset_all(Relay_ *r, ParamSet **now, ParamSet *base) noexcept nogil:
    cdef ParamSet *old = params_share(now[0])
    cdef bint done
    _move(r, now, base)
    done = _keep_identity(r, now, old)
    params_drop(&tables(r).params, old)
    return done


cdef inline void _lose_init(Server *s) noexcept nogil:
    """A RESET undoes what the init_query did, and nobody knows what that was."""
    if s.pool.init_opaque and not s.condemned:
        s.condemned = CloseReason.SERVER_STATE_UNKNOWN


cdef uint64_t _apply(Relay_ *r, Client *c, Server *s, const Effect *e, uint64_t may_unpin) noexcept nogil:
    """One statement has done what it says. Bits of the pins it causes."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef const uint8_t *value
    cdef Py_ssize_t n
    cdef Item one
    cdef Py_ssize_t at = 0
    cdef Statement *st = NULL
    cdef bint inside = ps.be.tx_status != p.TX_IDLE or e.statement    # perhaps behind a BEGIN and a SAVEPOINT
    ps.stirred = 1
    if e.kind == EFFECT_SET:
        if inside:
            _touch(r, c, e.name, e.name_size)
        if not (
            _put(r, &pc.now, e.name, e.name_size, e.value, e.value_size)
            and _put(r, &ps.now, e.name, e.name_size, e.value, e.value_size)
        ):
            return SETTING
        if e.name_size == 15 and memcmp(e.name, b"client_encoding", 15) == 0 and not settings_readable(pc.now):
            return SETTING       # the bytes of the other values mean something else from here on
    elif e.kind == EFFECT_RESET:
        _touch(r, c, e.name, e.name_size)
        value = params_get(pc.base, <const char*>e.name, e.name_size, &n)
        if value == NULL:
            _remove(r, &pc.now, e.name, e.name_size)
        elif not _put(r, &pc.now, e.name, e.name_size, value, n):
            return SETTING
        _remove(r, &ps.now, e.name, e.name_size)
        if e.name_size == 21 and memcmp(e.name, b"session_authorization", 21) == 0 and not _put(r, &ps.now, b"role", 4, b"none", 4):
            return SETTING       # so servers older than November 2024 have it: whoever comes next says which role it is to be
        _lose_init(s)
    elif e.kind == EFFECT_RESET_ALL:
        _touch_all(r, c, pc.now)
        if not (_reset_all(r, &pc.now, pc.base) and _reset_all(r, &ps.now, NULL)):
            return SETTING
        pc.unpin |= SETTING & may_unpin
        _lose_init(s)
    elif e.kind == EFFECT_DISCARD_ALL:
        # never inside a transaction block: nothing can take it back
        _move(r, &pc.now, pc.base)
        _move(r, &ps.now, NULL)
        names_clear(&pc.names, &tables(r).statements)
        if pc.flights[0].of_query:
            known_free(&ps.known)            # else it was done when it went: what is there has gone behind it
        ps.unnamed = 0
        ps.uncertain = 0
        _lose_init(s)
        if c.pins & OPAQUE and not s.condemned:
            s.condemned = CloseReason.SERVER_STATE_UNKNOWN
        pc.unpin |= (DISCARDED | OPAQUE) & may_unpin
    elif e.kind == EFFECT_ASK:
        _touch(r, c, e.name, e.name_size)
        if not _put(r, &pc.asked, e.name, e.name_size, b"", 0):
            return SETTING
    elif e.kind == EFFECT_ROLLBACK_TO:
        while params_next(pc.touched, &at, &one):
            if not _put(r, &pc.asked, one.name, one.name_size, b"", 0):
                return SETTING
    elif e.kind == EFFECT_DEALLOCATE:
        if names_look(&pc.names, e.name, e.name_size, ps.batch, &st) == NAME_PRESENT:
            known_remove(&ps.known, st.id)
            names_remove(&pc.names, &tables(r).statements, e.name, e.name_size)
    elif e.kind == EFFECT_DEALLOCATE_ALL:
        names_clear(&pc.names, &tables(r).statements)
        if pc.flights[0].of_query:
            known_free(&ps.known)
        ps.uncertain = 0
        pc.unpin |= PREPARED & may_unpin
    elif e.kind == EFFECT_DISCARD_SEQUENCES:
        pc.unpin |= SEQUENCE & may_unpin
    else:                        # EFFECT_UNKNOWN; with a name: RESET ALL does not take that one back
        return FUNCTION if e.name_size else SETTING
    _changed(r, c)
    return TEMPORARY if pc.temporary else 0


cdef void _boundary(Relay_ *r, Client *c, Server *s, bint keep) noexcept nogil:
    """The end of a transaction."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    if keep:
        _move(r, &ps.kept, ps.now)
    else:
        _move(r, &ps.now, ps.kept)
    if c == NULL:
        return
    _move(r, &pc.touched, NULL)
    if keep:
        _move(r, &pc.kept, pc.now)
    else:
        pc.unpin = 0
        if pc.now != pc.kept:
            _move(r, &pc.now, pc.kept)
            _changed(r, c)


cdef bint _tagged(const uint8_t *tag, Py_ssize_t n, const char *word, Py_ssize_t m) noexcept nogil:
    return n == m and memcmp(tag, word, m) == 0


cdef uint64_t virtual_complete(Relay_ *r, Client *c, Server *s, const uint8_t *tag, Py_ssize_t n) noexcept nogil:
    """CommandComplete, not of a request of ours. Bits of the pins that it causes."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef Flight *flight
    cdef Effect e
    cdef uint32_t at
    cdef uint64_t pins = 0
    cdef bint partly = False
    if ps.be.owed.answered == OWED_EFFECT and c != NULL and pc.n_flights:
        flight = &pc.flights[0]
        at = flight.at
        while effects_next(flight.text.effects, &at, &e) and e.statement == flight.done:
            pins |= _apply(r, c, s, &e, flight.may_unpin)
            partly |= e.kind == EFFECT_ROLLBACK_TO
            flight.at = at
        flight.done += 1
        if not flight.of_query:
            _landed(r, c)
    if ps.stirred:
        if _tagged(tag, n, b"COMMIT", 6) or _tagged(tag, n, b"PREPARE TRANSACTION", 19):
            _boundary(r, c, s, True)
        elif _tagged(tag, n, b"ROLLBACK", 8) and not partly:
            _boundary(r, c, s, False)
    return pins


cdef uint64_t virtual_suspended(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """PortalSuspended of something with effects: how much of it has happened is not known."""
    cdef PgServer *ps = <PgServer*>s
    if c == NULL or ps.be.owed.answered != OWED_EFFECT:
        return 0
    _landed(r, c)
    return SETTING


cdef bint _same(const ParamSet *a, const ParamSet *b, const char *name, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t n, m
    cdef const uint8_t *x = params_get(a, name, size, &n)
    cdef const uint8_t *y = params_get(b, name, size, &m)
    return (x == NULL and y == NULL) or (x != NULL and y != NULL and n == m and memcmp(x, y, n) == 0)


cdef uint8_t virtual_superuser(const ParamSet *told) noexcept nogil:
    cdef Py_ssize_t n
    cdef const uint8_t *value = params_get(told, b"is_superuser", 12, &n)
    return 0 if value == NULL else (2 if n == 2 else 1)


cdef ParamSet *_tell_superuser(Relay_ *r, PgClient *pc, ParamSet *told, IoBuf *out) noexcept nogil:
    """It is again who it was at its login: is_superuser, which goes with the role, is as it was then."""
    cdef const uint8_t *message = b"S\x00\x00\x00\x15is_superuser\x00off\x00"
    cdef Py_ssize_t n = 22
    cdef ParamSet *made
    if (
        pc.superuser == 0 or virtual_superuser(told) == pc.superuser or not _same(pc.now, pc.base, b"role", 4)
        or not _same(pc.now, pc.base, b"session_authorization", 21)
    ):
        return told
    if pc.superuser == 2:
        message = b"S\x00\x00\x00\x14is_superuser\x00on\x00"
        n = 21
    made = params_with(&tables(r).params, told, message, n)
    if made == NULL or iobuf_put(out, message, n) < 0:
        return told if made == NULL else made
    return made


cdef void virtual_tell_reset(Relay_ *r, Client *c) noexcept nogil:
    """Behind a RESET, in front of its ReadyForQuery: the values the client's session has gone back to, unlike its server."""
    cdef PgClient *pc = <PgClient*>c
    cdef IoBuf news
    news.data = NULL
    news.pos = news.end = news.cap = 0
    pc.told = settings_tell(&tables(r).params, pc.told, pc.base, pc.now, &news)
    pc.told = _tell_superuser(r, pc, pc.told, &news)
    if news.end:
        chan_send(&c.ch, news.data, news.end)
        iobuf_free(&news)
        pc.fe.std_strings = pc.told.std_strings
        pc.fe.ascii_safe = pc.told.ascii_safe


cdef void virtual_ready(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """ReadyForQuery, not of a request of ours."""
    cdef PgServer *ps = <PgServer*>s
    if c != NULL and ps.be.owed.answered == OWED_EFFECT:
        _landed(r, c)
    if ps.stirred and ps.be.tx_status == p.TX_IDLE:
        _boundary(r, c, s, not ps.errored)
        if c != NULL:
            _settle_reported(r, c, s)
        ps.stirred = 0
        ps.reported = 0
    ps.errored = 0


cdef void _settle_reported(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """The server's words for what it reports. At the end of a transaction."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    if pc.now == ps.now:
        pc.now = settings_reported(&tables(r).params, pc.now, pc.base, ps.born, ps.params, ps.reported)
        _move(r, &pc.kept, pc.now)
        _move(r, &ps.now, pc.now)
        _changed(r, c)
    else:                        # behind a RESET: what it reports is not how this client's session is
        ps.now = settings_reported(&tables(r).params, ps.now, NULL, ps.born, ps.params, ps.reported)
    _move(r, &ps.kept, ps.now)


cdef bint virtual_conceals(const Client *c, const Server *s, const uint8_t *message, Py_ssize_t n) noexcept nogil:
    """Is this ParameterStatus the effect of a RESET that leads the server, but not the client's session, to another value?"""
    cdef const PgClient *pc = <const PgClient*>c
    cdef const PgServer *ps = <const PgServer*>s
    if pc.base == NULL or ps.now == pc.now:
        return False
    if n > 18 and memcmp(message + 5, b"is_superuser", 13) == 0:
        return not _same(pc.now, ps.now, b"role", 4) or not _same(pc.now, ps.now, b"session_authorization", 21)
    return settings_apart(pc.now, ps.now, message, n)


# ---------------------------------------------------------------- asking

cdef bint virtual_ask(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """Between transactions: what are the settings named in `asked`? False if it could not be asked."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef IoBuf query
    cdef bint sent = False
    query.data = NULL
    query.pos = query.end = query.cap = 0
    if settings_ask(pc.asked, &query) == 0 and owed_request(&ps.be.owed, OWED_QUERY | OWED_SWALLOW, OWED_ASK) == 0:
        chan_send(&s.ch, query.data, query.end)
        ps.unnamed = 0
        sent = True
    iobuf_free(&query)
    return sent


cdef bint virtual_wonder(Relay_ *r, Client *c, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """The setting `name` was changed and nobody saw by what: its value is to be asked for. False without memory."""
    cdef PgClient *pc = <PgClient*>c
    return _put(r, &pc.asked, name, n, b"", 0)


cdef void virtual_given_up(Relay_ *r, Client *c) noexcept nogil:
    """There is no answer: what is asked for stays unknown."""
    cdef PgClient *pc = <PgClient*>c
    _move(r, &pc.asked, NULL)


cdef bint virtual_answer(Relay_ *r, Client *c, Server *s, const uint8_t *row, Py_ssize_t n) noexcept nogil:
    """The DataRow with the answer. False if it is none."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef Reader d = reader(row + 5, n - 5)
    cdef Item one
    cdef Py_ssize_t at = 0
    cdef int32_t size
    cdef const uint8_t *value
    cdef ParamSet *asked = pc.asked
    cdef bint ok = True
    read_u16(&d)
    pc.asked = NULL
    while ok and params_next(asked, &at, &one):
        size = <int32_t>read_u32(&d)
        value = read_bytes(&d, size) if size >= 0 else NULL
        if not d.ok:
            ok = False
        elif value == NULL:
            _remove(r, &pc.now, one.name, one.name_size)
            _remove(r, &ps.now, one.name, one.name_size)
        else:
            ok = (
                _put(r, &pc.now, one.name, one.name_size, value, size) and _put(r, &ps.now, one.name, one.name_size, value, size)
            )
    params_drop(&tables(r).params, asked)
    _move(r, &pc.kept, pc.now)
    _changed(r, c)
    _settle_reported(r, c, s)
    return ok
