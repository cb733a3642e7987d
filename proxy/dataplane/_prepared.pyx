"""Prepared statements over interchangeable servers: names are translated, missing statements prepared unseen in front of their use.

What a client calls "s1" is "slw_2a" on every server. A Bind or Describe of a statement that this server lacks gets a Parse put in
front of it, in the same write; its ParseComplete is swallowed. A client's own Parse always reaches the server, as it would
directly, so that its errors and its idea of the schema are the server's of today.

The unnamed statement belongs to its client as well: `Server.unnamed` says whose text the server has under that name, and a Bind
of another one gets the right Parse put in front, or, where the client has none, a Close, so that the server itself says so.

Whatever makes the books doubtful (a Close skipped after an error, SQL-level DEALLOCATE, a changed schema) sets
`Server.uncertain`: from then on each Parse of ours has a Close in front, which makes it succeed whatever was there.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from proxy._wire cimport iobuf_put, load_u32, store_u32
from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport (
    OWED_CLOSE, OWED_GONE, OWED_OWN, OWED_PARSE, OWED_STATEMENT, OWED_SWALLOW, OWED_UNNAMED, owed_request,
)
from proxy.pgsql._statements cimport (
    Known, STATEMENT_NAME_BYTES, Statement, known_free, known_get, known_oldest, known_put, known_remove, names_confirm,
    names_forget, names_get, names_put, names_remove, statement_drop, statement_intern, statement_name,
    statement_share,
)
from proxy.sql._lex cimport POSTGRESQL, lex_end, lex_feed, lex_start

cdef enum Bounds_:
    PER_SERVER = 256             # statements kept prepared on one server: the one used longest ago makes room
    TEXT_BYTES = 256             # a longer Query is not looked at for DEALLOCATE

cdef enum Result_:
    UNCHANGED = -2               # the message goes on as it is
    NO_MEMORY = -1


cdef bint _put(Relay_ *r, const uint8_t *at, Py_ssize_t n) noexcept nogil:
    return iobuf_put(&r.scratch, at, n) == 0


cdef bint _put_head(Relay_ *r, uint8_t kind, Py_ssize_t body) noexcept nogil:
    cdef uint8_t head[5]
    head[0] = kind
    store_u32(&head[1], <uint32_t>body + 4)
    return _put(r, &head[0], 5)


cdef bint _put_close(Relay_ *r, Server *s, const uint8_t *name, Py_ssize_t n, uint32_t argument) noexcept nogil:
    """A Close of ours. `name` of `n` bytes ends with a NUL behind them."""
    return (
        owed_request(&s.be.owed, OWED_CLOSE | OWED_SWALLOW, argument) == 0
        and _put_head(r, p.CLOSE, n + 2) and _put(r, b"S", 1) and _put(r, name, n + 1)
    )


cdef bint _put_parse(
    Relay_ *r, Server *s, const uint8_t *name, Py_ssize_t n, const Statement *st, uint8_t flags, uint32_t argument,
) noexcept nogil:
    return (
        owed_request(&s.be.owed, OWED_PARSE | flags, argument) == 0
        and _put_head(r, p.PARSE, n + 1 + st.size) and _put(r, name, n + 1) and _put(r, &st.data[0], st.size)
    )


cdef bint _prepare(Relay_ *r, Server *s, Statement *st, bint own) noexcept nogil:
    """Sees to it that `s` will have `st` when it reads what comes next. `own`: for a client's Parse, which is always sent."""
    cdef uint8_t name[STATEMENT_NAME_BYTES]
    cdef Known *known = known_get(&s.known, st.id)
    cdef uint32_t old
    cdef Py_ssize_t n
    if known != NULL and not own and (known.confirmed or known.sent == s.batch):
        known.used = s.batch
        return True
    if known == NULL and s.known.count >= PER_SERVER:
        old = known_oldest(&s.known, s.batch)
        if old:
            known_remove(&s.known, old)
            n = statement_name(old, &name[0])
            if not _put_close(r, s, &name[0], n, old | OWED_GONE):
                return False
    n = statement_name(st.id, &name[0])
    if (known != NULL or s.uncertain) and not _put_close(r, s, &name[0], n, st.id | OWED_GONE):
        return False
    known = known_put(&s.known, st.id)
    if known == NULL:
        return False
    known.confirmed = 0
    known.sent = s.batch
    known.used = s.batch
    return _put_parse(r, s, &name[0], n, st, 0 if own else OWED_SWALLOW, (st.id | OWED_OWN) if own else st.id)


cdef Py_ssize_t _parse(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """A client's Parse, whole."""
    cdef Server *s = c.server
    cdef Py_ssize_t skip = c.fe.name_at + c.fe.name_size + 1
    cdef bint fresh = False
    cdef uint8_t flags = <uint8_t>((c.fe.std_strings != 0) | ((c.fe.ascii_safe != 0) << 1))
    cdef const uint8_t *nul
    cdef Statement *st = statement_intern(&r.statements, at + skip, size - skip, flags, &fresh)
    if st == NULL:
        return NO_MEMORY
    if fresh:
        nul = <const uint8_t*>memchr(&st.data[0], 0, st.size)
        lex_start(&c.fe.lex, POSTGRESQL, c.fe.std_strings, c.fe.ascii_safe)
        lex_feed(&c.fe.lex, &st.data[0], st.size if nul == NULL else nul - &st.data[0])
        st.touches = lex_end(&c.fe.lex)
    c.fe.touches = st.touches
    if c.fe.name_size == 0:
        statement_drop(&r.statements, c.unnamed)
        c.unnamed = st
        s.unnamed = st.id
        if owed_request(&s.be.owed, OWED_PARSE, OWED_OWN | OWED_UNNAMED) < 0:
            return NO_MEMORY
        return UNCHANGED
    if names_put(&c.names, &r.statements, at + c.fe.name_at, c.fe.name_size, st) < 0:
        return NO_MEMORY
    if not _put(r, run, at - run) or not _prepare(r, s, st, True):
        return NO_MEMORY
    return size


cdef Py_ssize_t _use_unnamed(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at) noexcept nogil:
    """A Bind or Describe of the unnamed statement: the server must have this client's, or none."""
    cdef Server *s = c.server
    if c.unnamed_kept or (c.unnamed != NULL and s.unnamed == c.unnamed.id):
        return UNCHANGED
    if not _put(r, run, at - run):
        return NO_MEMORY
    if c.unnamed == NULL:
        s.unnamed = 0
        return 0 if _put_close(r, s, b"", 0, 0) else NO_MEMORY
    s.unnamed = c.unnamed.id
    return 0 if _put_parse(r, s, b"", 0, c.unnamed, OWED_SWALLOW, OWED_UNNAMED) else NO_MEMORY


cdef Py_ssize_t _renamed(Relay_ *r, Client *c, uint8_t kind, const uint8_t *at, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """The message's head with another statement name; what is behind the name follows as it is."""
    cdef uint32_t length = load_u32(at + 1)
    cdef Py_ssize_t skip = c.fe.name_at + c.fe.name_size + 1
    if not (
        _put_head(r, kind, <Py_ssize_t>length - 4 - c.fe.name_size + n)
        and _put(r, at + 5, <Py_ssize_t>c.fe.name_at - 5) and _put(r, name, n + 1)
    ):
        return NO_MEMORY
    return skip


cdef bint _ours(const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """A name as servers know it: a client that says it must not reach a statement of others."""
    return n >= 4 and memcmp(name, b"slw_", 4) == 0


cdef Py_ssize_t prepared_begin(
    Relay_ *r, Client *c, uint8_t kind, const uint8_t *run, const uint8_t *at, Py_ssize_t size,
) noexcept nogil:
    """A Parse, Bind, Describe or Close begins at `at`; `size` bytes of it are here. Does what its statement's name needs.

    UNCHANGED: it goes on as it is. NO_MEMORY. Else `r.scratch` now holds the bytes from `run` to `at` and, in translation, that
    many bytes of the message. The replies owed for Parse are entered here; for the others by the caller, behind what was put
    in front.
    """
    cdef Server *s = c.server
    cdef const uint8_t *name = at + c.fe.name_at
    cdef uint8_t ours[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n
    cdef Statement *st
    if kind == p.PARSE:
        if c.fe.whole:
            return _parse(r, c, run, at, size)
        # too large to be kept: an unnamed one keeps its server, a named one pins
        if c.fe.name_size == 0:
            statement_drop(&r.statements, c.unnamed)
            c.unnamed = NULL
            c.unnamed_kept = 1
            s.unnamed = 0
        return UNCHANGED if owed_request(&s.be.owed, OWED_PARSE, 0) == 0 else NO_MEMORY
    if kind != p.BIND and c.fe.object != 0x53:   # S: a statement, not a portal
        return UNCHANGED
    if kind == p.CLOSE:
        if c.fe.name_size == 0:
            statement_drop(&r.statements, c.unnamed)
            c.unnamed = NULL
            c.unnamed_kept = 0
            s.unnamed = 0
            return UNCHANGED
        if names_get(&c.names, name, c.fe.name_size) == NULL and not _ours(name, c.fe.name_size):
            return UNCHANGED
        # others may use it: the server is asked to close one that does not exist, which it answers in the same way
        names_remove(&c.names, &r.statements, name, c.fe.name_size)
        n = statement_name(0, &ours[0])
        return _renamed(r, c, kind, at, &ours[0], n) if _put(r, run, at - run) else NO_MEMORY
    if c.fe.name_size == 0:
        return _use_unnamed(r, c, run, at)
    st = names_get(&c.names, name, c.fe.name_size)
    if st == NULL and not _ours(name, c.fe.name_size):
        return UNCHANGED         # not prepared by protocol: the server will know, or say that it does not
    if not _put(r, run, at - run) or (st != NULL and not _prepare(r, s, st, False)):
        return NO_MEMORY
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
    """A whole Query that may be `DEALLOCATE [PREPARE] name`: in translation, if the name is this client's. As prepared_begin.

    Drivers that prepare by protocol deallocate by SQL (psycopg). Only the plain form is read; everything else pins.
    """
    cdef Server *s = c.server
    cdef const uint8_t *text = at + 5
    cdef const uint8_t *end = at + size - 1
    cdef const uint8_t *behind
    cdef uint8_t name[TEXT_BYTES]
    cdef uint8_t ours[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n = 0
    cdef Statement *st
    cdef bint quoted
    if size > TEXT_BYTES or size < 18 or end[0] != 0:
        return UNCHANGED
    while text < end and _blank(text[0]):
        text += 1
    text = _word(text, end, b"deallocate", 10)
    if text == NULL:
        return UNCHANGED
    behind = _word(text, end, b"prepare", 7)
    if behind != NULL:
        text = behind
    while end > text and (_blank((end - 1)[0]) or (end - 1)[0] == 0x3B):
        end -= 1
    quoted = end - text >= 2 and text[0] == 0x22 and (end - 1)[0] == 0x22
    if quoted:
        text += 1
        end -= 1
    while text < end:
        if text[0] == 0x22 or (not quoted and not (
            0x61 <= (text[0] | 0x20) <= 0x7A or text[0] == 0x5F or (n and 0x30 <= text[0] <= 0x39)
        )):
            return UNCHANGED
        name[n] = text[0] if quoted or not 0x41 <= text[0] <= 0x5A else text[0] | 0x20
        n += 1
        text += 1
    st = names_get(&c.names, &name[0], n) if n else NULL
    if st == NULL:
        return UNCHANGED
    statement_share(&r.statements, st)
    names_remove(&c.names, &r.statements, &name[0], n)
    n = statement_name(st.id, &ours[0])
    if not (
        _put(r, run, at - run) and _prepare(r, s, st, False)
        and _put_head(r, p.QUERY, n + 12) and _put(r, b"DEALLOCATE ", 11) and _put(r, &ours[0], n + 1)
    ):
        size = NO_MEMORY
    known_remove(&s.known, st.id)
    s.uncertain = 1              # should it fail, the server still has it
    statement_drop(&r.statements, st)
    return size


# ---------------------------------------------------------------- what the server made of it

cdef void prepared_answered(Client *c, Server *s) noexcept nogil:
    """A ParseComplete came, for `s.be.owed.answered`."""
    cdef uint32_t argument = s.be.owed.answered
    cdef Known *known
    if argument & OWED_UNNAMED:
        return
    known = known_get(&s.known, argument & OWED_STATEMENT)
    if known != NULL:
        known.confirmed = 1
    if argument & OWED_OWN and c != NULL:
        names_confirm(&c.names, argument & OWED_STATEMENT)


cdef void prepared_lost(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """An error came; `s.be.owed.lost` lists what will therefore not be prepared, or not be closed."""
    cdef uint32_t i, argument
    for i in range(s.be.owed.n_lost):
        argument = s.be.owed.lost[i]
        if argument & OWED_GONE:
            s.uncertain = 1
        elif argument & OWED_UNNAMED:
            s.unnamed = 0
            if argument & OWED_OWN and c != NULL:
                statement_drop(&r.statements, c.unnamed)
                c.unnamed = NULL
        else:
            known_remove(&s.known, argument & OWED_STATEMENT)
            if argument & OWED_OWN and c != NULL:
                names_forget(&c.names, &r.statements, argument & OWED_STATEMENT)
    s.be.owed.n_lost = 0


cdef void prepared_unsure(Server *s) noexcept nogil:
    """Nothing is known any more of what is prepared on `s`."""
    known_free(&s.known)
    s.unnamed = 0
    s.uncertain = 1
