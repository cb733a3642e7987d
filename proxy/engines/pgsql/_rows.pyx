"""How a statement's rows look on a server, and as its client was told: never read as they were before (edge case 29).

A client that executes without asking for the columns reads rows as it was once told they look. A server on which the statement
was prepared before a change of the schema refuses by itself ("cached plan must not change result type"); one on which it is
prepared only now knows nothing of what the client was told. So that server is asked, in front of the Bind, which waits: one round
trip, once for each statement and server. What does not look the same is refused as a server refuses it.

Shapes are hashes (`rows_shape`): one is kept with each statement that a server has, one with each name that a client has. 0 is
"not known"; 1 is a description too large to be looked at whole, with which everything agrees.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from proxy._wire cimport load_u32
from proxy.dataplane._session cimport schedule
from proxy.engines.pgsql._put cimport put_bytes, put_head, put_prepared
from proxy.engines.pgsql._state cimport PgClient, PgServer, pg_client, pg_server
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport OWED_DESCRIBE, OWED_STATEMENT, OWED_SWALLOW, REPLY_SWALLOW, owed_request
from proxy.pgsql._statements cimport Known, STATEMENT_NAME_BYTES, known_get, names_told, rows_shape, statement_name

cdef enum:
    SHAPE_TOO_LARGE = 1
    BIND_BYTES = 65536           # what comes behind a larger one is not waited for, and counts as no Describe


cdef enum Next:
    NEXT_OTHER = 0
    NEXT_DESCRIBE = 1
    NEXT_TO_COME = 2


cdef Next _behind(const PgClient *pc, const uint8_t *at, const uint8_t *end) noexcept nogil:
    """Is the Bind at `at` followed by a Describe of its portal? That must not depend on how the bytes were cut."""
    cdef Py_ssize_t size = 1 + <Py_ssize_t>load_u32(at + 1)
    cdef Py_ssize_t portal = <Py_ssize_t>pc.fe.name_at - 5         # its name, with the NUL
    cdef Py_ssize_t have = end - at - size
    if size > BIND_BYTES:
        return NEXT_OTHER
    if have < 1:
        return NEXT_TO_COME
    if at[size] != p.DESCRIBE:
        return NEXT_OTHER
    if have < 5:
        return NEXT_TO_COME
    if <Py_ssize_t>load_u32(at + size + 1) != 5 + portal:
        return NEXT_OTHER
    if have < 6 + portal:
        return NEXT_TO_COME
    return NEXT_DESCRIBE if at[size + 5] == 0x50 and memcmp(at + size + 6, at + 5, portal) == 0 else NEXT_OTHER


cdef Rows rows_relied_on(Client *c, Name *slot, Statement *st, const uint8_t *at, const uint8_t *end) noexcept nogil:
    """For the Bind at `at` of the statement that `slot` means. `end`: of what has come of the client."""
    cdef PgClient *pc = pg_client(c)
    cdef const Known *known = known_get(&pg_server(c.server).known, st.id)
    cdef uint32_t there = 0 if known == NULL else known.shape
    cdef Next behind
    if pc.probing:
        return ROWS_ASKED
    behind = _behind(pc, at, end)
    if behind == NEXT_DESCRIBE:
        if there == 0 or there != slot.shape:
            pc.bound = st.id     # it is told by the answer, not before
        return ROWS_RIGHT
    if slot.shape <= SHAPE_TOO_LARGE or there == slot.shape or there == SHAPE_TOO_LARGE:
        return ROWS_RIGHT
    if behind == NEXT_TO_COME:
        pc.unsynced = 1          # as if it had gone: its server stays
        return ROWS_ASKED
    return ROWS_OTHERS if there else ROWS_UNKNOWN


cdef bint rows_ask(Relay_ *r, Client *c, Statement *st) noexcept nogil:
    """Appended to what goes. A Flush makes the server answer at once. False without memory."""
    cdef uint8_t name[STATEMENT_NAME_BYTES]
    cdef Py_ssize_t n = statement_name(st.id, &name[0])
    if not (
        put_prepared(r, c.server, st, False)
        and owed_request(&pg_server(c.server).be.owed, OWED_DESCRIBE | OWED_SWALLOW, <uint32_t>OWED_SHAPE | st.id) == 0
        and put_head(r, p.DESCRIBE, n + 2) and put_bytes(r, b"S", 1) and put_bytes(r, &name[0], n + 1) and put_head(r, p.FLUSH, 0)
    ):
        return False
    pg_client(c).probing = 1
    pg_client(c).unsynced = 1
    return True


cdef void rows_described(Relay_ *r, Client *c, Server *s, const uint8_t *message, Py_ssize_t n) noexcept nogil:
    """A RowDescription or NoData came, for a Describe of which `rows_wanted` says so."""
    cdef PgServer *ps = pg_server(s)
    cdef uint32_t id = ps.be.owed.answered & <uint32_t>OWED_STATEMENT
    cdef uint32_t shape = rows_shape(message, n)
    cdef Known *known = known_get(&ps.known, id)
    if known != NULL and known.confirmed:    # else this is about one that has been prepared anew since
        known.shape = shape
    if c == NULL:
        return
    if ps.be.verdict == REPLY_SWALLOW:
        rows_answered(r, c)
    else:
        names_told(&pg_client(c).names, id, shape)


cdef void rows_answered(Relay_ *r, Client *c) noexcept nogil:
    """What the Bind waits for has come, or an error instead of it: then the server skips the Bind."""
    if pg_client(c).probing:
        pg_client(c).probing = 0
        c.hold = 0
        c.resume = 1
        schedule(r, &c.ch)
