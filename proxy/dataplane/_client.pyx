"""A client's turn: its socket is read once and handed to its engine; what it was told last is seen off.

One visit reads once (fairness: nobody gets a second read before everybody had a first). While its server does not read, the
client is not read either.
"""

from proxy._reasons cimport CloseReason
from proxy._wire cimport iobuf_len
from proxy.dataplane._chan cimport chan_flush, chan_half_close, chan_keep, chan_load, chan_unsent
from proxy.dataplane._session cimport client_close, schedule
from proxy.dataplane._state cimport (
    BUFFER_BYTES, CLIENT_CLOSING, CLIENT_LINGERING, CLIENT_WAITING, Client, Relay_, Server, list_append,
)
from proxy.shm._fields cimport EP_BYTES_FROM_CLIENTS
from proxy.shm._segment cimport word_add


cdef void _linger(Relay_ *r, Client *c) noexcept nogil:
    """Its last words are on the way: half-close behind them, then read until the client closes too.

    Closing at once with unread bytes in the socket would reset the connection and could take the error text with it.
    """
    cdef Py_ssize_t n
    if c.ch.broken or c.ch.hup:
        client_close(r, c, CloseReason.CLIENT_GONE)
        return
    if c.state == CLIENT_CLOSING:
        if chan_unsent(&c.ch):
            return
        chan_half_close(&c.ch)
        c.state = CLIENT_LINGERING
    n = chan_load(&c.ch, r.buf, BUFFER_BYTES)
    if n < 0:
        client_close(r, c, CloseReason.CLIENT_GONE)
    elif n > 0:
        schedule(r, &c.ch)


cdef void client_visit(Relay_ *r, Client *c) noexcept nogil:
    cdef Server *s
    cdef Py_ssize_t n, had
    if chan_unsent(&c.ch):
        chan_flush(&c.ch)
        if chan_unsent(&c.ch) == 0 and c.server != NULL and c.server.ch.readable:
            schedule(r, &c.server.ch)        # it had stopped for us
    if c.state == CLIENT_CLOSING or c.state == CLIENT_LINGERING:
        _linger(r, c)
        return
    if c.ch.broken:
        client_close(r, c, CloseReason.CLIENT_GONE)
        return
    if c.state == CLIENT_WAITING:
        if c.ch.hup:                         # it left while in line: its place costs nothing
            client_close(r, c, CloseReason.CLIENT_GONE)
        return
    s = c.server
    if s != NULL:
        if chan_unsent(&s.ch):               # the server does not read: neither do we
            if c.ch.hup:
                client_close(r, c, CloseReason.CLIENT_GONE)
            return
        if c.engine.client_waits(c):
            return
        if s.cancels and s.engine.server_owed(s) == 0:
            return                           # a cancel under way must not hit the next query: session_cancel_done resumes
    had = iobuf_len(&c.ch.tail)
    if not c.ch.readable and not (c.resume and had):
        c.resume = 0
        return
    n = chan_load(&c.ch, r.buf, BUFFER_BYTES)
    if n < 0:
        client_close(r, c, CloseReason.CLIENT_GONE)
        return
    if n > had:
        c.active_at = r.now
        list_append(&c.line.clients, &c.activity)
        word_add(c.ep + EP_BYTES_FROM_CLIENTS, n - had)
    elif not c.resume:
        if n and chan_keep(&c.ch, r.buf, n) < 0:
            client_close(r, c, CloseReason.CLIENT_GONE)
        return
    if n:
        c.engine.client_read(r, c, r.buf, n)
    if c.ch.fd >= 0 and (c.ch.hup if c.state == CLIENT_WAITING else c.ch.readable):
        schedule(r, &c.ch)                   # of one who has left already, no further event will tell
