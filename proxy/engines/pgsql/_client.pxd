from libc.stdint cimport uint8_t

from proxy.dataplane._state cimport Client, Relay_

cdef void client_read(Relay_ *r, Client *c, uint8_t *buf, Py_ssize_t n) noexcept nogil
