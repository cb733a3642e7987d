# The virtual session: what a client believes its session to be, and how a server is made to agree. See _virtual.pyx.

from libc.stdint cimport uint8_t, uint64_t

from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.engines.pgsql._state cimport PgClient
from proxy.pgsql._params cimport ParamSet
from proxy.pgsql._statements cimport Statement

cdef uint8_t virtual_superuser(const ParamSet *told) noexcept nogil
cdef bint virtual_begin(Relay_ *r, Client *c, ParamSet *base) noexcept nogil
cdef void virtual_free(Relay_ *r, Client *c) noexcept nogil
cdef void virtual_attach(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef void virtual_told(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef bint virtual_align(Relay_ *r, Client *c, Server *s) noexcept nogil

cdef Statement *virtual_text(Relay_ *r, Client *c, const uint8_t *text, Py_ssize_t n) noexcept nogil
cdef bint virtual_sent(Relay_ *r, Client *c, Statement *text, bint of_query) noexcept nogil
cdef void virtual_pinned(Client *c, uint64_t reasons) noexcept nogil
cdef void virtual_lost(Relay_ *r, Client *c) noexcept nogil
cdef uint64_t virtual_complete(Relay_ *r, Client *c, Server *s, const uint8_t *tag, Py_ssize_t n) noexcept nogil
cdef uint64_t virtual_suspended(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef void virtual_tell_reset(Relay_ *r, Client *c) noexcept nogil
cdef void virtual_ready(Relay_ *r, Client *c, Server *s) noexcept nogil

cdef bint virtual_wonder(Relay_ *r, Client *c, const uint8_t *name, Py_ssize_t n) noexcept nogil
cdef void virtual_given_up(Relay_ *r, Client *c) noexcept nogil
cdef bint virtual_resetting(const Client *c) noexcept nogil
cdef bint virtual_conceals(const Client *c, const Server *s, const uint8_t *message, Py_ssize_t n) noexcept nogil
cdef bint virtual_ask(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef bint virtual_answer(Relay_ *r, Client *c, Server *s, const uint8_t *row, Py_ssize_t n) noexcept nogil

cdef inline bint virtual_unsure(const Client *c) noexcept nogil:
    """What the client's settings are when the next message is read depends on answers that have not come."""
    cdef const PgClient *pc = <const PgClient*>c
    return pc.n_flights != 0 or pc.asked != NULL
