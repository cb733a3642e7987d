# What the relay tells the front. See _events.pyx.

from libc.stdint cimport int64_t

from proxy.dataplane._state cimport Relay_

cdef enum Event_:
    EVENT_OPEN = 1
    EVENT_CANCEL = 2
    EVENT_CLIENT_CLOSED = 3
    EVENT_SERVER_CLOSED = 4
    EVENT_SERVER_FATAL = 5
    EVENT_PINNED = 6
    EVENT_DUMP = 7
    EVENT_DRAINED = 8
    EVENT_LOG = 9
    EVENT_FORGET = 10            # what was learnt about this pool's server no longer holds
    EVENT_POOL_EMPTY = 11        # neither clients nor servers for a minute
    EVENT_UNPINNED = 12
    EVENT_REFUSED = 13           # a server would not take a client's settings: its ErrorResponse

cdef void tell(Relay_ *r, int kind, int64_t a, int64_t b, int64_t c, const void *text, Py_ssize_t n) noexcept nogil
