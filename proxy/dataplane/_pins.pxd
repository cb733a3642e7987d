# What binds a client to its server connection, and how that ends. See _pins.pyx.

from libc.stdint cimport uint8_t, uint64_t

from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.sql._effects cimport Effects

cdef void pins_cause(Relay_ *r, Client *c, uint64_t reasons, const uint8_t *text, Py_ssize_t n) noexcept nogil
cdef void pins_end(Relay_ *r, Client *c, uint64_t reasons) noexcept nogil
cdef void pins_forget(Relay_ *r, Client *c) noexcept nogil
cdef int pins_refused(Client *c, uint64_t touches, const Effects *effects) noexcept nogil
cdef void pins_rest(Relay_ *r, Client *c) noexcept nogil
cdef void pins_work(Relay_ *r, Client *c) noexcept nogil
cdef bint pins_soon(const Relay_ *r, const Client *c) noexcept nogil
cdef bint pins_later(const Relay_ *r, const Client *c) noexcept nogil
cdef bint pins_ask(Relay_ *r, Client *c, Server *s, bint thorough) noexcept nogil
cdef void pins_left(Client *c, uint64_t left) noexcept nogil
cdef void pins_doubt(Client *c) noexcept nogil
cdef void pins_answered(Relay_ *r, Client *c, uint64_t still) noexcept nogil
