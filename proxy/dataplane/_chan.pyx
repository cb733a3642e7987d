"""A channel: one non-blocking socket, with or without TLS, and the bytes left over on either side of it.

Registered edge-triggered once and for all, so there is no epoll_ctl per message: `readable` and `writable` remember what the
kernel said last. A short read means the socket is drained (epoll(7), "edge-triggered": the next bytes make a new event).
Nothing here closes a connection: a failed send sets `broken`, and whoever visits the channel next closes it with a reason.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.string cimport memcpy

from proxy._wire cimport IoBuf, iobuf_free, iobuf_len, iobuf_put, iobuf_take
from proxy.net._tls cimport (
    TLS_CLOSED, TLS_WANT, tls_feed, tls_free, tls_pending, tls_read, tls_shutdown, tls_unsent, tls_write,
)

cdef extern from * nogil:
    """
    #include <sys/socket.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    /* recv() and send() are cancellation points: in a process with threads, glibc 2.36 spends four atomic operations on each so
       that pthread_cancel could interrupt it. Nobody here does. The sanitizer wants to see the real ones. */
    #if defined(__SANITIZE_ADDRESS__) || !defined(SYS_recvfrom)
    #define chan_recv recv
    #define chan_send_ send
    #else
    static inline ssize_t chan_recv(int fd, void *buf, size_t n, int flags) {
        return syscall(SYS_recvfrom, fd, buf, n, flags, NULL, NULL);
    }
    static inline ssize_t chan_send_(int fd, const void *buf, size_t n, int flags) {
        return syscall(SYS_sendto, fd, buf, n, flags, NULL, 0);
    }
    #endif
    """
    ssize_t recv "chan_recv"(int fd, void *buf, size_t n, int flags)
    ssize_t send "chan_send_"(int fd, const void *buf, size_t n, int flags)
    int shutdown(int fd, int how)
    enum: MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef enum:
    CIPHER_BYTES = 32768         # received at once from a TLS peer


cdef void chan_init(Chan *ch, int fd, bint is_server) noexcept nogil:
    ch.ready.prev = &ch.ready
    ch.ready.next = &ch.ready
    ch.fd = fd
    ch.is_server = is_server
    ch.readable = 1              # unknown: a first read finds out
    ch.writable = 1


cdef Py_ssize_t _receive(Chan *ch, uint8_t *buf, Py_ssize_t cap) noexcept nogil:
    """Bytes read from the socket; 0: none now; CHAN_EOF; CHAN_FAILED."""
    cdef ssize_t n
    if not ch.readable:
        return 0
    while True:
        n = recv(ch.fd, buf, cap, MSG_DONTWAIT)
        if n >= 0 or errno != EINTR:
            break
    if n > 0:
        # with the end of the stream already announced, there is a zero to read behind the last bytes
        if n < cap and not ch.hup:
            ch.readable = 0
        return n
    if n == 0:
        return CHAN_EOF
    if errno == EAGAIN:
        ch.readable = 0
        return 0
    return CHAN_FAILED


cdef Py_ssize_t _receive_tls(Chan *ch, uint8_t *buf, Py_ssize_t cap) noexcept nogil:
    """As _receive, and apart from it: its 32 KiB lie between whoever calls it and whatever it calls."""
    cdef uint8_t cipher[CIPHER_BYTES]
    cdef Py_ssize_t n = tls_read(ch.tls, buf, cap)
    while n == TLS_WANT and ch.readable:
        n = _receive(ch, &cipher[0], CIPHER_BYTES)
        if n <= 0:
            break
        if tls_feed(ch.tls, &cipher[0], n) < 0:
            return CHAN_FAILED
        n = tls_read(ch.tls, buf, cap)
    if n == TLS_CLOSED:
        n = CHAN_EOF
    if n > 0 and tls_pending(ch.tls):
        ch.readable = 1          # more is there, in our own memory: no event will tell
    if tls_unsent(ch.tls):       # a key update or an alert
        chan_flush(ch)
    return n


cdef Py_ssize_t chan_load(Chan *ch, uint8_t *buf, Py_ssize_t cap) noexcept nogil:
    """Puts the tail and then what can be read now into `buf`: how many bytes there are.

    CHAN_EOF and CHAN_FAILED only when not a single new byte came; the tail is then untouched. The tail is consumed otherwise.
    """
    cdef Py_ssize_t have = iobuf_len(&ch.tail)
    cdef Py_ssize_t n = 0
    if have > cap:
        return CHAN_FAILED       # tails are bounded by the buffer they came from
    if cap > have:
        n = _receive(ch, buf + have, cap - have) if ch.tls == NULL else _receive_tls(ch, buf + have, cap - have)
    if n < 0:
        return n
    if have:
        memcpy(buf, ch.tail.data + ch.tail.pos, have)
        iobuf_free(&ch.tail)
    return have + n


cdef int chan_keep(Chan *ch, const uint8_t *at, Py_ssize_t n) noexcept nogil:
    """The bytes that cannot go on yet become the tail (which chan_load has emptied). 0, or -1 without memory."""
    return iobuf_put(&ch.tail, at, n)


cdef Py_ssize_t chan_unsent(const Chan *ch) noexcept nogil:
    if ch.tls != NULL:
        return tls_unsent(ch.tls)
    return iobuf_len(&ch.out)


cdef Py_ssize_t _transmit(Chan *ch, const uint8_t *at, Py_ssize_t n) noexcept nogil:
    """How many bytes the kernel took; sets `writable` and `broken`."""
    cdef ssize_t sent
    cdef Py_ssize_t done = 0
    while done < n and ch.writable:
        sent = send(ch.fd, at + done, n - done, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent >= 0:
            done += sent
            if done < n:
                ch.writable = 0
        elif errno == EAGAIN:
            ch.writable = 0
        elif errno != EINTR:
            ch.broken = 1
            break
    return done


cdef void chan_flush(Chan *ch) noexcept nogil:
    cdef IoBuf *out = &ch.out if ch.tls == NULL else &ch.tls.outbox
    cdef Py_ssize_t n
    if ch.broken or ch.fd < 0:
        return
    n = iobuf_len(out)
    if n and ch.writable:
        n = _transmit(ch, out.data + out.pos, n)
        if n:
            iobuf_take(out, n)


cdef void chan_send(Chan *ch, const uint8_t *at, Py_ssize_t n) noexcept nogil:
    """Sends now what the kernel takes and keeps the rest in order. Never fails: see `broken`."""
    cdef Py_ssize_t sent = 0
    if n == 0 or ch.broken or ch.fd < 0:
        return
    if ch.tls != NULL:
        if tls_write(ch.tls, at, n) < 0:
            ch.broken = 1
        chan_flush(ch)
        return
    if iobuf_len(&ch.out) == 0 and ch.writable:
        sent = _transmit(ch, at, n)
    if sent < n and not ch.broken and iobuf_put(&ch.out, at + sent, n - sent) < 0:
        ch.broken = 1


cdef void chan_half_close(Chan *ch) noexcept nogil:
    """Says that nothing more will come, and lets the peer read what did."""
    if ch.tls != NULL and not ch.broken:
        tls_shutdown(ch.tls)
        chan_flush(ch)
    shutdown(ch.fd, SHUT_WR)


cdef void chan_close(Chan *ch) noexcept nogil:
    if ch.fd >= 0:
        close(ch.fd)             # epoll forgets the descriptor with its last copy
        ch.fd = -1
    iobuf_free(&ch.tail)
    iobuf_free(&ch.out)
    if ch.tls != NULL:
        tls_free(ch.tls)
        ch.tls = NULL
