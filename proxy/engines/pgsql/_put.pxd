# Messages of the proxy's own in front of a client's. See _put.pyx.

from libc.stdint cimport uint8_t, uint32_t

from proxy.dataplane._state cimport Relay_, Server
from proxy.pgsql._statements cimport Statement

# All: False without memory.
cdef bint put_bytes(Relay_ *r, const uint8_t *at, Py_ssize_t n) noexcept nogil
cdef bint put_head(Relay_ *r, uint8_t kind, Py_ssize_t body) noexcept nogil
cdef bint put_close(Relay_ *r, Server *s, const uint8_t *name, Py_ssize_t n, uint32_t argument) noexcept nogil
cdef bint put_parse(
    Relay_ *r, Server *s, const uint8_t *name, Py_ssize_t n, const Statement *st, uint8_t flags, uint32_t argument,
) noexcept nogil
cdef bint put_prepared(Relay_ *r, Server *s, Statement *st, bint own) noexcept nogil
