from libc.stdint cimport uint8_t, uint32_t

from proxy._wire cimport IoBuf
from proxy.dataplane._state cimport Client, Relay_, Server

cdef enum PreparedResult:
    PREPARED_PROBED = -4         # the message waits for an answer to what is in `scratch`
    PREPARED_HOLD = -3           # the message waits for answers
    PREPARED_UNCHANGED = -2      # it goes on as it is
    PREPARED_FAILED = -1         # no memory

cdef Py_ssize_t prepared_begin(
    Relay_ *r, Client *c, uint8_t kind, const uint8_t *run, const uint8_t *at, Py_ssize_t size, const uint8_t *end,
    uint32_t *argument,
) noexcept nogil
cdef Py_ssize_t prepared_query(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size) noexcept nogil
cdef void prepared_answered(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef void prepared_lost(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef void prepared_unsure(Server *s) noexcept nogil
cdef Py_ssize_t prepared_error(Client *c, Server *s, const uint8_t *message, Py_ssize_t n, IoBuf *out) noexcept nogil
