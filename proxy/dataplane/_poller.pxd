# What became ready. The one interface the relay's loop waits at: epoll today. See _poller.pyx.

from libc.stdint cimport uint8_t

cdef enum:
    POLLER_EVENTS = 512

cdef struct Happening:
    void *who                    # as given to poller_add
    uint8_t readable             # or an error, or its end: reading tells
    uint8_t writable
    uint8_t hup                  # the peer has closed its side, or both

cdef int poller_create() noexcept nogil
cdef bint poller_add(int poller, int fd, void *who, bint both) noexcept nogil
cdef int poller_wait(int poller, Happening *out, int timeout_ms) noexcept nogil
