"""Messages of the proxy's own, written in front of a client's, in the same write (`Relay.scratch`), with the answers they owe."""

from libc.stdint cimport uint8_t, uint32_t

from proxy._wire cimport iobuf_put, store_u32
from proxy.dataplane._state cimport Relay_, Server
from proxy.engines.pgsql._state cimport PgServer
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport OWED_CLOSE, OWED_GONE, OWED_OWN, OWED_PARSE, OWED_SWALLOW, owed_request
from proxy.pgsql._statements cimport (
    Known, STATEMENT_NAME_BYTES, Statement, known_get, known_oldest, known_put, known_remove, statement_name,
)
from proxy.shm._fields cimport TG_STATEMENTS_PREPARED
from proxy.shm._segment cimport word_add


cdef bint put_bytes(Relay_ *r, const uint8_t *at, Py_ssize_t n) noexcept nogil:
    return iobuf_put(&r.scratch, at, n) == 0


cdef bint put_head(Relay_ *r, uint8_t kind, Py_ssize_t body) noexcept nogil:
    cdef uint8_t head[5]
    head[0] = kind
    store_u32(&head[1], <uint32_t>body + 4)
    return put_bytes(r, &head[0], 5)


cdef bint put_close(Relay_ *r, Server *s, const uint8_t *name, Py_ssize_t n, uint32_t argument) noexcept nogil:
    """A Close of ours. `name` of `n` bytes ends with a NUL behind them."""
    cdef PgServer *ps = <PgServer*>s
    return (
        owed_request(&ps.be.owed, OWED_CLOSE | OWED_SWALLOW, argument) == 0
        and put_head(r, p.CLOSE, n + 2) and put_bytes(r, b"S", 1) and put_bytes(r, name, n + 1)
    )


cdef bint put_parse(
    Relay_ *r, Server *s, const uint8_t *name, Py_ssize_t n, const Statement *st, uint8_t flags, uint32_t argument,
) noexcept nogil:
    cdef PgServer *ps = <PgServer*>s
    return (
        owed_request(&ps.be.owed, OWED_PARSE | flags, argument) == 0
        and put_head(r, p.PARSE, n + 1 + st.size) and put_bytes(r, name, n + 1) and put_bytes(r, &st.data[0], st.size)
    )


cdef bint put_prepared(Relay_ *r, Server *s, Statement *st, bint own) noexcept nogil:
    """Sees to it that `s` will have `st` when it reads what comes next. `own`: for a client's Parse, which is always sent."""
    cdef PgServer *ps = <PgServer*>s
    cdef uint8_t name[STATEMENT_NAME_BYTES]
    cdef Known *known = known_get(&ps.known, st.id)
    cdef uint32_t old
    cdef Py_ssize_t n
    if known != NULL and not own and (known.confirmed or known.sent == ps.batch):
        known.used = ps.batch
        return True
    if known == NULL and ps.known.count >= s.pool.max_prepared:
        old = known_oldest(&ps.known, ps.batch)
        if old:
            known_remove(&ps.known, old)
            n = statement_name(old, &name[0])
            if not put_close(r, s, &name[0], n, old | OWED_GONE):
                return False
    n = statement_name(st.id, &name[0])
    if (known != NULL or ps.uncertain) and not put_close(r, s, &name[0], n, st.id | OWED_GONE):
        return False
    known = known_put(&ps.known, st.id)
    if known == NULL:
        return False
    known.confirmed = 0
    known.shape = 0
    known.sent = ps.batch
    known.used = ps.batch
    word_add(s.pool.target.tg + TG_STATEMENTS_PREPARED, not own)
    return put_parse(r, s, &name[0], n, st, 0 if own else OWED_SWALLOW, (st.id | OWED_OWN) if own else st.id)
