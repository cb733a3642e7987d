# What is left of what has pinned a session, asked of its server. See _audit.pyx.

from libc.stdint cimport uint8_t

from proxy.dataplane._state cimport Client, Relay_, Server

cdef bint audit_ask(Relay_ *r, Client *c, Server *s, bint thorough) noexcept nogil
cdef void audit_answer(Relay_ *r, Client *c, const uint8_t *row, Py_ssize_t n) noexcept nogil
