from libc.stdint cimport uint8_t

from proxy.dataplane._state cimport Relay_, Server

cdef void server_read(Relay_ *r, Server *s, uint8_t *buf, Py_ssize_t n) noexcept nogil
