# A channel: one socket, with or without TLS. See _chan.pyx.

from libc.stdint cimport uint8_t

from proxy.dataplane._state cimport Chan

cpdef enum:
    CHAN_EOF = -1                # closed by the peer, in order or not
    CHAN_FAILED = -2             # socket or TLS error

cdef void chan_init(Chan *ch, int fd, bint is_server) noexcept nogil
cdef Py_ssize_t chan_load(Chan *ch, uint8_t *buf, Py_ssize_t cap) noexcept nogil
cdef int chan_keep(Chan *ch, const uint8_t *at, Py_ssize_t n) noexcept nogil
cdef void chan_send(Chan *ch, const uint8_t *at, Py_ssize_t n) noexcept nogil
cdef void chan_flush(Chan *ch) noexcept nogil
cdef Py_ssize_t chan_unsent(const Chan *ch) noexcept nogil
cdef void chan_half_close(Chan *ch) noexcept nogil
cdef void chan_close(Chan *ch) noexcept nogil
