# How a statement's rows look on a server, and as its client was told. See _rows.pyx.

from libc.stdint cimport uint8_t, uint32_t

from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.pgsql._owed cimport OWED_EFFECT, OWED_SHAPE
from proxy.pgsql._statements cimport Name, Statement

cdef enum Rows:
    ROWS_RIGHT = 0               # as the client was told, or it asks, or it was never told
    ROWS_OTHERS = 1
    ROWS_UNKNOWN = 2             # the server must be asked: rows_ask
    ROWS_ASKED = 3               # … and has not answered yet; or what follows has not come yet, on which it depends

cdef Rows rows_relied_on(Client *c, Name *slot, Statement *st, const uint8_t *at, const uint8_t *end) noexcept nogil
cdef bint rows_ask(Relay_ *r, Client *c, Statement *st) noexcept nogil
cdef void rows_described(Relay_ *r, Client *c, Server *s, const uint8_t *message, Py_ssize_t n) noexcept nogil
cdef void rows_answered(Relay_ *r, Client *c) noexcept nogil

cdef inline bint rows_wanted(uint32_t argument) noexcept nogil:
    """Of a Describe: how the rows look is of interest."""
    return argument & (<uint32_t>OWED_EFFECT | <uint32_t>OWED_SHAPE) == <uint32_t>OWED_SHAPE
