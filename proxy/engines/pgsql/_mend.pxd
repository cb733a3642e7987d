# A batch that failed over a stale plan is run again, unseen. See _mend.pyx.

from libc.stdint cimport uint8_t

from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.engines.pgsql._state cimport PgServer

cdef enum Mend_:                 # Server.mend, of the batch at hand
    MEND_BOUND = 1               # it binds a statement that is in the books
    MEND_DESCRIBED = 2           # … and asks for its columns
    MEND_BLIND = 4               # … and does not, before it executes
    MEND_MENDING = 8             # it has failed: its ReadyForQuery is waited for
    MEND_KEEPING = 16            # its end has not come yet

cdef void mend_begin(const Client *c) noexcept nogil
cdef void mend_keep(Server *s, const uint8_t *at, Py_ssize_t n, bint ends) noexcept nogil
cdef bint mend_wanted(const Server *s) noexcept nogil
cdef bint mend_again(Relay_ *r, Client *c, Server *s) noexcept nogil
cdef void mend_free(Server *s) noexcept nogil

cdef inline void mend_forget(Server *s) noexcept nogil:
    """It has an answer, or is another one's."""
    cdef PgServer *ps = <PgServer*>s
    ps.again.pos = ps.again.end = 0
    ps.mend = 0
