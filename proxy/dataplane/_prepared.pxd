from libc.stdint cimport uint8_t, uint32_t

from proxy.dataplane._state cimport Client, Relay_, Server

cdef Py_ssize_t prepared_begin(
    Relay_ *r, Client *c, uint8_t kind, const uint8_t *run, const uint8_t *at, Py_ssize_t size,
) noexcept nogil
cdef Py_ssize_t prepared_query(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size) noexcept nogil
cdef void prepared_answered(Client *c, Server *s) noexcept nogil
cdef void prepared_lost(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef void prepared_unsure(Server *s) noexcept nogil
