"""An audit: one query of the proxy's own, between two requests of a pinned client (see dataplane/_pins and pgsql/_leftovers)."""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr

from proxy._wire cimport IoBuf, iobuf_free
from proxy.dataplane._chan cimport chan_send
from proxy.dataplane._pins cimport pins_doubt, pins_left
from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.engines.pgsql._state cimport PgServer, pg_client, pg_server
from proxy.engines.pgsql._virtual cimport virtual_wonder
from proxy.pgsql._leftovers cimport leftovers_answer, leftovers_ask
from proxy.pgsql._owed cimport OWED_AUDIT, OWED_QUERY, OWED_SWALLOW, owed_request
from proxy.pgsql._params cimport params_get


cdef bint audit_ask(Relay_ *r, Client *c, Server *s, bint thorough) noexcept nogil:
    """Nothing is owed, no transaction is open. `thorough`: for changed settings, too. False if it could not be asked."""
    cdef PgServer *ps = pg_server(s)
    cdef IoBuf query
    cdef bint sent = False
    if pg_client(c).asked != NULL:
        return False
    query.data = NULL
    query.pos = query.end = query.cap = 0
    if leftovers_ask(c.pins, thorough and not c.pool.init_opaque, &query) == 0 and (
        owed_request(&ps.be.owed, OWED_QUERY | OWED_SWALLOW, OWED_AUDIT) == 0
    ):
        chan_send(&s.ch, query.data, query.end)
        ps.unnamed = 0           # a Query destroys it
        sent = True
    iobuf_free(&query)
    return sent


cdef void audit_answer(Relay_ *r, Client *c, const uint8_t *row, Py_ssize_t n) noexcept nogil:
    """The DataRow. Settings that are changed and not in the books are asked for, and are the client's own from then on."""
    cdef uint64_t left
    cdef const uint8_t *name
    cdef const uint8_t *end
    cdef const uint8_t *comma
    cdef Py_ssize_t size, m
    if not leftovers_answer(row, n, &left, &name, &size):
        return
    pins_left(c, left)
    end = name + size
    while name != NULL and name < end:
        comma = <const uint8_t*>memchr(name, 0x2C, end - name)
        if comma == NULL:
            comma = end
        if params_get(pg_server(c.server).now, <const char*>name, comma - name, &m) == NULL and (
            not virtual_wonder(r, c, name, comma - name)
        ):
            pins_doubt(c)        # without memory
        name = comma + 1
