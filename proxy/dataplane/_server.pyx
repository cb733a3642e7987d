"""A server connection's turn: its socket is read once and handed to its engine.

While its client has not taken what it was sent, the server is not read at all: the kernel's window stops the database, and memory
per connection stays bounded (edge case 10).
"""

from proxy._reasons cimport CloseReason
from proxy._wire cimport iobuf_len
from proxy.dataplane._chan cimport CHAN_EOF, chan_flush, chan_keep, chan_load, chan_unsent
from proxy.dataplane._session cimport schedule, server_close, server_gone, server_lost, session_settle
from proxy.dataplane._state cimport BUFFER_BYTES, Client, Relay_, SERVER_CLEANUP, SERVER_PARTING, Server
from proxy.shm._fields cimport TG_BYTES_FROM_SERVERS
from proxy.shm._segment cimport word_add

cdef enum:
    CLEANUP_BYTES = 67108864     # of an abandoned result that are read rather than closing the connection


cdef void _part(Relay_ *r, Server *s) noexcept nogil:
    """What still comes is of no interest; the end of the stream is."""
    cdef Py_ssize_t n
    chan_flush(&s.ch)                        # TLS: its close_notify
    n = chan_load(&s.ch, r.buf, BUFFER_BYTES)
    if n < 0:
        server_gone(r, s)
    elif s.ch.readable:
        schedule(r, &s.ch)


cdef void server_visit(Relay_ *r, Server *s) noexcept nogil:
    cdef Client *c = s.client
    cdef Py_ssize_t n, had
    if s.state == SERVER_PARTING:
        _part(r, s)
        return
    if chan_unsent(&s.ch):
        chan_flush(&s.ch)
        if chan_unsent(&s.ch) == 0 and c != NULL:
            c.resume = iobuf_len(&c.ch.tail) != 0
            schedule(r, &c.ch)               # it had stopped for us
    if s.ch.broken and not s.ch.readable:
        server_lost(r, s, CloseReason.SERVER_WRITE_FAILED, b"write failed")
        return
    if c != NULL and chan_unsent(&c.ch) and not c.ch.broken:
        return                               # the client does not read: neither do we
    if not s.ch.readable:
        if c != NULL and s.engine.server_owed(s) == 0:
            session_settle(r, s)             # our unsent bytes may have been all that was in the way
        return
    had = iobuf_len(&s.ch.tail)
    n = chan_load(&s.ch, r.buf, BUFFER_BYTES)
    if n < 0:
        server_lost(
            r, s, CloseReason.SERVER_FATAL if s.engine.server_dying(s) else CloseReason.SERVER_EOF,
            b"end of the stream" if n == CHAN_EOF else b"receive failed",
        )
        return
    if n > had or (n and s.state == SERVER_CLEANUP):
        word_add(s.pool.target.tg + TG_BYTES_FROM_SERVERS, n - had)
        if s.state == SERVER_CLEANUP:
            s.cleanup_bytes += n - had
            if s.cleanup_bytes > CLEANUP_BYTES:
                server_close(r, s, CloseReason.SERVER_CLEANUP_TIMEOUT, b"too much left of an abandoned result")
                return
        s.engine.server_read(r, s, r.buf, n)
    else:
        if n and chan_keep(&s.ch, r.buf, n) < 0:
            server_lost(r, s, CloseReason.SERVER_DOUBTFUL, b"out of memory")
            return
        session_settle(r, s)                 # nothing unread: that may have been all that was missing
    if s.ch.fd >= 0 and s.ch.readable:
        schedule(r, &s.ch)
    elif s.ch.fd >= 0 and s.ch.broken:
        server_lost(r, s, CloseReason.SERVER_WRITE_FAILED, b"write failed")
