"""Prepared statements over interchangeable servers: names are translated, missing statements prepared unseen in front of their use.

What a client calls "s1" is "slw_2a" on every server. A Bind or Describe of a statement that this server lacks gets a Parse put in
front of it, in the same write; its ParseComplete is swallowed. A client's own Parse always reaches the server, as it would
directly, so that its errors and its idea of the schema are the server's of today. A Parse of a name that is taken is sent under
the name of a statement that certainly exists: the server refuses it in its own words, in which only the name is put right.

A statement belongs to the settings it was analysed under (search_path, role, time zone …): under others it is another one. What a
name means may depend on answers that have not come; then the message waits for them (PREPARED_HOLD), or, inside a batch, whose
answers come only behind its Sync, and inside a transaction, at whose end the server is asked, uses a statement nobody shares.

The unnamed statement belongs to its client as well: `Server.unnamed` says whose text the server has under that name, and a Bind
of another one gets the right Parse put in front, or, where the client has none, a Close, so that the server itself says so.

Whatever makes the books doubtful (a Close skipped after an error, a DO block) sets `Server.uncertain`: from then on each Parse of
ours has a Close in front, which makes it succeed whatever was there.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from proxy._reasons cimport PinReason
from proxy._wire cimport IoBuf, iobuf_put, load_u32, store_u32
from proxy.dataplane._pins cimport pins_refused
from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.engines.pgsql._mend cimport MEND_BOUND
from proxy.engines.pgsql._put cimport put_bytes, put_close, put_head, put_parse, put_prepared
from proxy.engines.pgsql._rows cimport ROWS_ASKED, ROWS_OTHERS, ROWS_UNKNOWN, Rows, rows_ask, rows_relied_on
from proxy.engines.pgsql._state cimport PgClient, PgServer, pg_server, tables
from proxy.engines.pgsql._virtual cimport virtual_lost, virtual_unsure
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport (
    OWED_DUPLICATE, OWED_EFFECT, OWED_GONE, OWED_OWN, OWED_PARSE, OWED_REFUSED, OWED_SHAPE, OWED_STATEMENT, OWED_SWALLOW,
    OWED_UNNAMED, owed_count, owed_request,
)
from proxy.pgsql._settings cimport says_temporary
from proxy.pgsql._statements cimport (
    ASCII_SAFE, Known, Name, NAME_ABSENT, NAME_PRESENT, NAME_UNSURE, NameState, PRIVATE, STATEMENT_NAME_BYTES, STD_STRINGS,
    Statement, known_free, known_get, known_remove, names_answered, names_change, names_last, names_look, names_of, names_put,
    statement_drop, statement_intern, statement_name, statement_share, statement_text_size,
)
from proxy.sql._effects cimport effects_read
from proxy.sql._lex cimport LEX_EFFECTS, LEX_ENDS, LEX_LOCAL, LEX_TRANSACTION_END, POSTGRESQL, lex_end, lex_feed, lex_start

cdef enum Bounds_:
    TEXT_BYTES = 256             # a longer Query is not looked at for DEALLOCATE and EXECUTE

cdef uint64_t PINS = 0xFFFFFFFF
cdef uint64_t UNREADABLE = <uint64_t>1 << <int>PinReason.PIN_UNREADABLE | <uint64_t>1 << <int>PinReason.PIN_ENCODING


cdef Statement *_interned(Relay_ *r, Client *c, const uint8_t *body, Py_ssize_t n) noexcept nogil:
    """The statement with this body under the client's settings; one reference is the caller's. NULL without memory."""
    cdef PgClient *pc = <PgClient*>c
    cdef bint fresh = False
    cdef bint unsure = virtual_unsure(c)
    cdef uint8_t flags = <uint8_t>(
        (STD_STRINGS if pc.fe.std_strings else 0) | (ASCII_SAFE if pc.fe.ascii_safe else 0) | (PRIVATE if unsure else 0)
    )
    cdef Py_ssize_t size
    cdef Statement *st = statement_intern(&tables(r).statements, body, n, flags, NULL if unsure else pc.meaning, &fresh)
    if st == NULL or not fresh:
        return st
    size = statement_text_size(st)
    lex_start(&pc.fe.lex, POSTGRESQL, pc.fe.std_strings, pc.fe.ascii_safe)
    lex_feed(&pc.fe.lex, &st.data[0], size)
    st.touches = lex_end(&pc.fe.lex)
    if st.touches & LEX_LOCAL and says_temporary(&st.data[0], size):
        st.touches |= <uint64_t>1 << <int>PinReason.PIN_TEMPORARY_OBJECT
    if st.touches & LEX_EFFECTS:
        st.effects = effects_read(&st.data[0], size, pc.fe.std_strings)
        if st.effects == NULL:
            st.touches |= <uint64_t>1 << <int>PinReason.PIN_SETTING
    return st


cdef bint _will_know(const Client *c, const Server *s) noexcept nogil:
    """What is unsure about the client's settings is answered before long. Within a transaction nobody asks (see virtual_ask)."""
    cdef const PgClient *pc = <const PgClient*>c
    cdef const PgServer *ps = <const PgServer*>s
    return pc.n_flights != 0 or (
        pc.asked != NULL and not ps.be.owed.in_doubt and (owed_count(&ps.be.owed) != 0 or ps.be.tx_status == p.TX_IDLE)
    )


cdef NameState _look(Client *c, Server *s, const uint8_t *name, Py_ssize_t n, Statement **found) noexcept nogil:
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    if not pc.unsynced and _will_know(c, s):
        return NAME_UNSURE
    return names_look(&pc.names, name, n, ps.batch, found)


cdef Py_ssize_t _taken(
    Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size, Py_ssize_t skip, const Statement *holder,
) noexcept nogil:
    """A Parse of a name that `holder` has."""
    cdef Server *s = c.server
    cdef PgServer *ps = <PgServer*>s
    cdef bint fresh = False
    cdef uint8_t name[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n
    cdef Statement *empty = statement_intern(&tables(r).statements, b"\x00\x00\x00", 3, STD_STRINGS | ASCII_SAFE, NULL, &fresh)
    if empty == NULL:
        return PREPARED_FAILED
    n = statement_name(empty.id, &name[0])
    if not (
        put_bytes(r, run, at - run) and put_prepared(r, s, empty, False)
        and owed_request(&ps.be.owed, OWED_PARSE, OWED_DUPLICATE | holder.id) == 0
        and put_head(r, p.PARSE, n + 1 + size - skip) and put_bytes(r, &name[0], n + 1) and put_bytes(r, at + skip, size - skip)
    ):
        size = PREPARED_FAILED
    statement_drop(&tables(r).statements, empty)
    return size


cdef Py_ssize_t _parse(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """A client's Parse, whole."""
    cdef PgClient *pc = <PgClient*>c
    cdef Server *s = c.server
    cdef PgServer *ps = <PgServer*>s
    cdef const uint8_t *name = at + pc.fe.name_at
    cdef Py_ssize_t skip = pc.fe.name_at + pc.fe.name_size + 1
    cdef NameState state = NAME_ABSENT
    cdef Statement *holder = NULL
    cdef Statement *st
    if pc.fe.name_size:
        state = _look(c, s, name, pc.fe.name_size, &holder)
        if state == NAME_UNSURE:
            return PREPARED_HOLD
    st = _interned(r, c, at + skip, size - skip)
    if st == NULL:
        return PREPARED_FAILED
    pc.fe.touches = st.touches & ~(PINS | LEX_ENDS | LEX_LOCAL)   # what it does, it does when it runs: see _portal
    if pc.fe.name_size == 0:
        statement_drop(&tables(r).statements, pc.unnamed)
        pc.unnamed = st
        ps.unnamed = st.id
        if owed_request(&ps.be.owed, OWED_PARSE, OWED_OWN | OWED_UNNAMED) < 0:
            return PREPARED_FAILED
        return PREPARED_UNCHANGED
    if state == NAME_PRESENT:
        statement_drop(&tables(r).statements, st)
        return _taken(r, c, run, at, size, skip, holder)
    if names_change(&pc.names, &tables(r).statements, name, pc.fe.name_size, st, ps.batch) < 0:
        return PREPARED_FAILED
    if not put_bytes(r, run, at - run) or not put_prepared(r, s, st, True):
        return PREPARED_FAILED
    return size


cdef Statement *_restated(Relay_ *r, Client *c, const uint8_t *name, Py_ssize_t n, Statement *st) noexcept nogil:
    """The same text under the settings of now; the name means that from here on, unless an answer is to come to its batch that may
    speak of it by what it means there. NULL without memory."""
    cdef PgClient *pc = <PgClient*>c
    cdef Statement *other = _interned(r, c, &st.data[0], st.size)
    if other == NULL or virtual_unsure(c) or pc.names.n_changes or (
        pc.unsynced and owed_count(&pg_server(c.server).be.owed)
    ):
        if other != NULL:
            statement_drop(&tables(r).statements, other)     # kept as long as unused ones are
        return other
    return other if names_put(&pc.names, &tables(r).statements, name, n, other) == 0 else NULL


cdef Py_ssize_t _use_unnamed(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at) noexcept nogil:
    """A Bind or Describe of the unnamed statement: the server must have this client's, or none."""
    cdef PgClient *pc = <PgClient*>c
    cdef Server *s = c.server
    cdef PgServer *ps = <PgServer*>s
    if pc.unnamed_kept or (pc.unnamed != NULL and ps.unnamed == pc.unnamed.id):
        return PREPARED_UNCHANGED
    if not put_bytes(r, run, at - run):
        return PREPARED_FAILED
    if pc.unnamed == NULL:
        ps.unnamed = 0
        return 0 if put_close(r, s, b"", 0, 0) else PREPARED_FAILED
    ps.unnamed = pc.unnamed.id
    return 0 if put_parse(r, s, b"", 0, pc.unnamed, OWED_SWALLOW, OWED_UNNAMED) else PREPARED_FAILED


cdef Py_ssize_t _renamed(Relay_ *r, Client *c, uint8_t kind, const uint8_t *at, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """The message's head with another statement name; what is behind the name follows as it is."""
    cdef PgClient *pc = <PgClient*>c
    cdef uint32_t length = load_u32(at + 1)
    cdef Py_ssize_t skip = pc.fe.name_at + pc.fe.name_size + 1
    if not (
        put_head(r, kind, <Py_ssize_t>length - 4 - pc.fe.name_size + n)
        and put_bytes(r, at + 5, <Py_ssize_t>pc.fe.name_at - 5) and put_bytes(r, name, n + 1)
    ):
        return PREPARED_FAILED
    return skip


cdef bint _ours(const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """A name as servers know it: a client that says it must not reach a statement of others."""
    return n >= 4 and memcmp(name, b"slw_", 4) == 0


cdef void _portal(Relay_ *r, Client *c, const uint8_t *at, Statement *st) noexcept nogil:
    """A Bind: what does its portal run? NULL: not known."""
    cdef PgClient *pc = <PgClient*>c
    pc.fe.touches = 0 if st == NULL else st.touches & (PINS | LEX_ENDS | LEX_LOCAL)
    if pc.fe.touches:
        r.text = &st.data[0]
        r.text_size = statement_text_size(st)
    if at[5] == 0:               # the unnamed one
        if pc.portal != NULL:
            statement_drop(&tables(r).statements, pc.portal)
            pc.portal = NULL
        pc.portal_known = st != NULL and not st.touches & (LEX_TRANSACTION_END | UNREADABLE)
        if st != NULL and st.effects != NULL:
            statement_share(&tables(r).statements, st)
            pc.portal = st
    elif st == NULL or st.effects != NULL:
        pc.named_effects = 1


cdef bint _refused(Client *c, const Statement *st, uint32_t *argument) noexcept nogil:
    """Does the pool's policy let this run?"""
    cdef PgClient *pc = <PgClient*>c
    cdef int reason = 0 if st == NULL else pins_refused(c, st.touches, st.effects)
    if reason:
        pc.fe.touches = 0
        argument[0] = OWED_REFUSED + <uint32_t>reason
    return reason != 0


cdef Py_ssize_t _nobody(Relay_ *r, Client *c, uint8_t kind, const uint8_t *run, const uint8_t *at) noexcept nogil:
    """The message with the name of a statement that does not exist."""
    cdef uint8_t name[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n = statement_name(0, &name[0])
    return _renamed(r, c, kind, at, &name[0], n) if put_bytes(r, run, at - run) else PREPARED_FAILED


cdef Py_ssize_t prepared_begin(
    Relay_ *r, Client *c, uint8_t kind, const uint8_t *run, const uint8_t *at, Py_ssize_t size, const uint8_t *end,
    uint32_t *argument,
) noexcept nogil:
    """A Parse, Bind, Describe or Close begins at `at`; `size` bytes of it are here. Does what its statement's name needs.

    `end`: of what has come of the client. PREPARED_UNCHANGED, _HOLD (nothing has been done), _PROBED, _FAILED; else `r.scratch`
    now holds the bytes from `run` to `at` and, in translation, that many bytes of the message. The replies owed for Parse are
    entered here; for the others by the caller, with `argument`, behind what was put in front.
    """
    cdef PgClient *pc = <PgClient*>c
    cdef Server *s = c.server
    cdef PgServer *ps = <PgServer*>s
    cdef const uint8_t *name = at + pc.fe.name_at
    cdef uint8_t ours[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n
    cdef Statement *st = NULL
    cdef Name *slot
    cdef uint32_t shape
    cdef NameState state
    cdef Rows rows
    if kind == p.PARSE:
        if pc.fe.whole:
            return _parse(r, c, run, at, size)
        # too large to be kept: an unnamed one keeps its server, a named one pins
        if pc.fe.name_size == 0:
            statement_drop(&tables(r).statements, pc.unnamed)
            pc.unnamed = NULL
            pc.unnamed_kept = 1
            ps.unnamed = 0
        return PREPARED_UNCHANGED if owed_request(&ps.be.owed, OWED_PARSE, 0) == 0 else PREPARED_FAILED
    if kind != p.BIND and pc.fe.object != 0x53:   # S: a statement, not a portal
        if kind == p.DESCRIBE and pc.bound:
            argument[0] = <uint32_t>OWED_SHAPE | pc.bound
            pc.bound = 0
        return PREPARED_UNCHANGED
    pc.bound = 0
    if pc.fe.name_size == 0:
        if kind == p.CLOSE:
            statement_drop(&tables(r).statements, pc.unnamed)
            pc.unnamed = NULL
            pc.unnamed_kept = 0
            ps.unnamed = 0
            return PREPARED_UNCHANGED
        if kind == p.BIND:
            if _refused(c, pc.unnamed, argument):
                return _nobody(r, c, kind, run, at)
            _portal(r, c, at, pc.unnamed)
            if pc.unnamed != NULL:
                ps.mend |= MEND_BOUND
        return _use_unnamed(r, c, run, at)
    state = _look(c, s, name, pc.fe.name_size, &st)
    if state == NAME_UNSURE:
        return PREPARED_HOLD
    if state == NAME_ABSENT and not _ours(name, pc.fe.name_size):
        if kind == p.BIND:
            _portal(r, c, at, NULL)
        return PREPARED_UNCHANGED        # not prepared by protocol: the server will know, or say that it does not
    if kind == p.CLOSE:
        # others may use it: the server is asked to close one that does not exist, which it answers in the same way
        if names_change(&pc.names, &tables(r).statements, name, pc.fe.name_size, NULL, ps.batch) < 0:
            return PREPARED_FAILED
        argument[0] = OWED_OWN
        return _nobody(r, c, kind, run, at)
    slot = names_last(&pc.names)
    if st != NULL and (st.meaning != pc.meaning or st.flags & PRIVATE or virtual_unsure(c)):
        shape = slot.shape if slot != NULL else 0
        st = _restated(r, c, name, pc.fe.name_size, st)
        if st == NULL:
            return PREPARED_FAILED
        if slot != NULL:
            slot.shape = shape
    if kind == p.DESCRIBE and st != NULL:
        argument[0] = <uint32_t>OWED_SHAPE | st.id
    if kind == p.BIND:
        if _refused(c, st, argument):
            return _nobody(r, c, kind, run, at)
        if slot != NULL and not ps.be.owed.skipping and ps.be.tx_status != p.TX_FAILED:
            rows = rows_relied_on(c, slot, st, at, end)
            if rows == ROWS_OTHERS:
                argument[0] = OWED_REFUSED       # with the server's words for that, see family.words
                return _nobody(r, c, kind, run, at)
            if rows == ROWS_ASKED:
                return PREPARED_HOLD
            if rows == ROWS_UNKNOWN:
                return PREPARED_PROBED if put_bytes(r, run, at - run) and rows_ask(r, c, st) else PREPARED_FAILED
        _portal(r, c, at, st)
        if st != NULL:
            ps.mend |= MEND_BOUND
    if not put_bytes(r, run, at - run) or (st != NULL and not put_prepared(r, s, st, False)):
        return PREPARED_FAILED
    n = statement_name(0 if st == NULL else st.id, &ours[0])
    return _renamed(r, c, kind, at, &ours[0], n)


# ---------------------------------------------------------------- SQL that speaks of prepared statements

cdef bint _blank(uint8_t b) noexcept nogil:
    return b == 0x20 or (0x09 <= b <= 0x0D)


cdef const uint8_t *_word(const uint8_t *at, const uint8_t *end, const char *word, Py_ssize_t n) noexcept nogil:
    """Behind `word` (lower case) and at least one blank, or NULL."""
    cdef Py_ssize_t i
    if end - at <= n:
        return NULL
    for i in range(n):
        if (at[i] | 0x20) != <uint8_t>word[i]:
            return NULL
    at += n
    if not _blank(at[0]):
        return NULL
    while at < end and _blank(at[0]):
        at += 1
    return at


cdef Py_ssize_t prepared_query(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """A whole Query that may be `DEALLOCATE [PREPARE] name` or `EXECUTE name …`: in translation, if the name is this client's. As
    prepared_begin.

    Drivers that prepare by protocol deallocate by SQL (psycopg). Only the plain forms are read; everything else pins.
    """
    cdef PgClient *pc = <PgClient*>c
    cdef Server *s = c.server
    cdef const uint8_t *text = at + 5
    cdef const uint8_t *end = at + size - 1
    cdef const uint8_t *behind
    cdef uint8_t name[TEXT_BYTES]
    cdef uint8_t ours[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n = 0, m
    cdef Statement *st = NULL
    cdef NameState state
    cdef bint quoted, execute
    if size > TEXT_BYTES or size < 15 or end[0] != 0:
        return PREPARED_UNCHANGED
    while text < end and _blank(text[0]):
        text += 1
    behind = _word(text, end, b"execute", 7)
    execute = behind != NULL
    if not execute:
        behind = _word(text, end, b"deallocate", 10)
        if behind == NULL:
            return PREPARED_UNCHANGED
        text = _word(behind, end, b"prepare", 7)
        if text != NULL:
            behind = text
    text = behind
    quoted = text < end and text[0] == 0x22
    if quoted:
        text += 1
    while text < end and text[0] != 0x22 and (
        quoted or 0x61 <= (text[0] | 0x20) <= 0x7A or text[0] == 0x5F or (n and 0x30 <= text[0] <= 0x39)
    ):
        name[n] = text[0] if quoted or not 0x41 <= text[0] <= 0x5A else text[0] | 0x20
        n += 1
        text += 1
    if quoted:
        if text == end or text[0] != 0x22:
            return PREPARED_UNCHANGED
        text += 1
    # what is behind the name: its parameters, or nothing
    behind = text
    while behind < end and (_blank(behind[0]) or behind[0] == 0x3B):
        behind += 1
    if n == 0 or (behind < end and not (execute and behind[0] == 0x28)):
        return PREPARED_UNCHANGED
    state = _look(c, s, &name[0], n, &st)
    if state != NAME_PRESENT:
        return PREPARED_HOLD if state == NAME_UNSURE else PREPARED_UNCHANGED
    if st.meaning != pc.meaning or st.flags & PRIVATE:
        st = _restated(r, c, &name[0], n, st)
        if st == NULL:
            return PREPARED_FAILED
    if execute and st.effects != NULL:
        pc.fe.touches |= <uint64_t>1 << <int>PinReason.PIN_SETTING
    n = statement_name(st.id, &ours[0])
    m = end - text + 1           # with the NUL
    if not (
        put_bytes(r, run, at - run) and put_prepared(r, s, st, False)
        and put_head(r, p.QUERY, (8 if execute else 11) + n + m)
        and (put_bytes(r, b"EXECUTE ", 8) if execute else put_bytes(r, b"DEALLOCATE ", 11))
        and put_bytes(r, &ours[0], n) and put_bytes(r, text, m)
    ):
        return PREPARED_FAILED
    return size


# ---------------------------------------------------------------- what the server made of it

cdef void prepared_answered(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """A ParseComplete or CloseComplete came, for `ps.be.owed.answered`."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef uint32_t argument = ps.be.owed.answered
    cdef Known *known
    if argument & (OWED_UNNAMED | OWED_DUPLICATE | OWED_GONE):
        return
    if argument & OWED_STATEMENT:
        known = known_get(&ps.known, argument & OWED_STATEMENT)
        if known != NULL:
            known.confirmed = 1
    if argument & OWED_OWN and c != NULL:
        names_answered(&pc.names, &tables(r).statements, True)


cdef void prepared_lost(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """An error came; `ps.be.owed.lost` lists what will therefore not be done."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef uint32_t i, argument
    for i in range(ps.be.owed.n_lost):
        argument = ps.be.owed.lost[i]
        if not argument & OWED_EFFECT and argument & OWED_SHAPE == OWED_SHAPE:
            continue
        if argument & OWED_EFFECT:
            if argument == OWED_EFFECT:
                virtual_lost(r, c)
        elif argument & OWED_GONE:
            ps.uncertain = 1
        elif argument & OWED_UNNAMED:
            ps.unnamed = 0
            if argument & OWED_OWN and c != NULL:
                statement_drop(&tables(r).statements, pc.unnamed)
                pc.unnamed = NULL
        elif not argument & OWED_DUPLICATE:
            if argument & OWED_STATEMENT:
                known_remove(&ps.known, argument & OWED_STATEMENT)
            if argument & OWED_OWN and c != NULL:
                names_answered(&pc.names, &tables(r).statements, False)
    ps.be.owed.n_lost = 0


cdef Py_ssize_t prepared_error(Client *c, Server *s, const uint8_t *message, Py_ssize_t n, IoBuf *out) noexcept nogil:
    """A whole ErrorResponse that may speak of a statement by the name it has on servers: with the client's name for it, in `out`;
    0 if there is nothing to put right, -1 without memory."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef Py_ssize_t i = 5, begin
    cdef uint32_t id, size = 0
    cdef const char *name
    while i + 4 < n and memcmp(message + i, b"slw_", 4) != 0:
        i += 1
    if i + 4 >= n:
        return 0
    begin = i
    i += 4
    id = 0
    while i < n and (0x30 <= message[i] <= 0x39 or 0x61 <= message[i] <= 0x66) and i - begin < 12:
        id = id << 4 | (message[i] - 0x30 if message[i] <= 0x39 else message[i] - 0x57)
        i += 1
    if ps.be.owed.answered & OWED_DUPLICATE:
        id = ps.be.owed.answered & OWED_STATEMENT
    name = names_of(&pc.names, id, &size)
    if name == NULL:
        return 0
    if not (
        iobuf_put(out, message, begin) == 0 and iobuf_put(out, <const uint8_t*>name, size) == 0
        and iobuf_put(out, message + i, n - i) == 0
    ):
        return -1
    store_u32(out.data + 1, <uint32_t>out.end - 1)
    return out.end


cdef void prepared_unsure(Server *s) noexcept nogil:
    """Nothing is known any more of what is prepared on `s`."""
    cdef PgServer *ps = <PgServer*>s
    known_free(&ps.known)
    ps.unnamed = 0
    ps.uncertain = 1
