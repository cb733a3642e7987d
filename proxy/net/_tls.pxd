# A TLS session as the relay thread holds it: one C struct, bytes in, bytes out, no socket, no Python. See `_tls.pyx`.

from libc.stdint cimport uint8_t, uint16_t

from proxy._wire cimport IoBuf, iobuf_len
from proxy.net._openssl cimport SSL

cdef enum TlsResult:
    TLS_WANT = 0         # nothing to hand out: feed more ciphertext
    TLS_CLOSED = -1      # the peer said close_notify; it will send nothing more
    TLS_ERROR = -2       # the session is over; tls_why() tells; an alert for the peer may be in the outbox

cdef struct Tls:
    SSL *ssl
    IoBuf inbox          # ciphertext received, not yet read by OpenSSL
    IoBuf outbox         # ciphertext to send: take with iobuf_take
    IoBuf held           # plaintext accepted while OpenSSL must read before it may write (see tls_write)
    const char *why      # of the failure, a static string; NULL while all is well
    bint closed          # close_notify has been read
    bint untold          # `closed` or `why` came behind data: the next tls_read tells
    bint unverified      # `why` is what was wrong with the peer's certificate
    uint16_t chatter     # how often merely reading has made us answer

cdef int tls_feed(Tls *t, const uint8_t *p, Py_ssize_t n) noexcept nogil
cdef int tls_handshake(Tls *t) noexcept nogil
cdef Py_ssize_t tls_read(Tls *t, uint8_t *p, Py_ssize_t cap) noexcept nogil
cdef Py_ssize_t tls_write(Tls *t, const uint8_t *p, Py_ssize_t n) noexcept nogil
cdef bint tls_pending(Tls *t) noexcept nogil
cdef void tls_shutdown(Tls *t) noexcept nogil
cdef const char *tls_why(const Tls *t) noexcept nogil
cdef void tls_free(Tls *t) noexcept nogil

cdef inline Py_ssize_t tls_unsent(const Tls *t) noexcept nogil:
    """Bytes accepted from the writer and not yet sent: what a high-water mark has to be compared with."""
    return <Py_ssize_t>iobuf_len(&t.outbox) + iobuf_len(&t.held)

cdef class TlsSession:
    cdef Tls *t

    cdef Tls *detach(self) except NULL
