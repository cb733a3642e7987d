"""TLS without I/O: ciphertext in, plaintext out, and the reverse. OpenSSL does the protocol; nothing knows a socket.

`Tls` is a C struct, so that a connection can move from the front thread (handshake, through the Python classes below)
to the relay thread (the `tls_*` functions, without the GIL). OpenSSL reads and writes through a BIO of our own over two
`IoBuf`s: an idle session owns no buffer at all. One thread owns a session at a time; contexts are counted by OpenSSL,
so a reload may drop a context whose sessions live on with the old certificate.

OpenSSL keeps errors in one queue per thread, shared by all sessions of that thread. Every operation therefore starts
with an empty queue and leaves an empty one: what failed for one connection is never read as the failure of another.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from proxy._wire cimport iobuf_free, iobuf_put, iobuf_reserve, iobuf_take
from proxy.net._openssl cimport *

cdef extern from *:
    """
    static long tls_live;  /* sessions of both threads, for the leak check of the tests */
    static void tls_count(long n) { __atomic_fetch_add(&tls_live, n, __ATOMIC_RELAXED); }
    static long tls_counted(void) { return __atomic_load_n(&tls_live, __ATOMIC_RELAXED); }
    """
    void tls_count(long n) noexcept nogil
    long tls_counted() noexcept nogil

cdef enum:
    RECORD = 16384           # largest plaintext of one record
    RECORD_EXTRA = 96        # more than head, nonce, tag and padding of a record ever take
    HELD_LIMIT = 1048576     # plaintext kept for a peer that leaves a post-handshake message unfinished
    CHATTER_LIMIT = 16       # reads in a row that brought no data but made us answer


class TlsError(Exception):
    """The session or its configuration is unusable; the text is OpenSSL's. `take()` may then hold an alert to send."""


class TlsClosed(TlsError):
    """The peer ended the session in good order (close_notify)."""


class TlsFileError(TlsError):
    """A certificate, key or CA file that cannot be used; `path` names it."""

    path = ""

    def __init__(self, text, path):
        super().__init__(text)
        self.path = path


def live_sessions():
    """Sessions allocated and not yet freed, in this process; zero when every connection is gone."""
    return tls_counted()


# ---------------------------------------------------------------- the BIO over the two buffers

cdef int bio_read(BIO *b, char *p, int n) noexcept nogil:
    cdef Tls *t = <Tls*>BIO_get_data(b)
    cdef int have = <int>iobuf_len(&t.inbox)
    BIO_clear_retry_flags(b)
    if have == 0 or n <= 0:
        BIO_set_retry_read(b)    # the end of the stream is the caller's to see: it owns the socket
        return -1
    if n > have:
        n = have
    memcpy(p, t.inbox.data + t.inbox.pos, n)
    iobuf_take(&t.inbox, n)
    return n


cdef int bio_write(BIO *b, const char *p, int n) noexcept nogil:
    cdef Tls *t = <Tls*>BIO_get_data(b)
    BIO_clear_retry_flags(b)
    return n if n > 0 and iobuf_put(&t.outbox, <const uint8_t*>p, n) == 0 else -1


cdef long bio_ctrl(BIO *b, int what, long n, void *p) noexcept nogil:
    cdef Tls *t = <Tls*>BIO_get_data(b)
    if what == BIO_CTRL_FLUSH:
        return 1
    if what == BIO_CTRL_PENDING:
        return <long>iobuf_len(&t.inbox)
    if what == BIO_CTRL_WPENDING:
        return <long>iobuf_len(&t.outbox)
    return 0


cdef BIO_METHOD *bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, b"sluiceway")
if (
    bio_method == NULL
    or not BIO_meth_set_read(bio_method, bio_read)
    or not BIO_meth_set_write(bio_method, bio_write)
    or not BIO_meth_set_ctrl(bio_method, bio_ctrl)
):
    raise MemoryError("OpenSSL cannot register a BIO")


# ---------------------------------------------------------------- errors

cdef inline void clear_errors() noexcept nogil:
    if ERR_peek_error():         # far cheaper than clearing an empty queue
        ERR_clear_error()


cdef const char *queued_error() noexcept nogil:
    """Text of the first error of this thread's queue, which is emptied."""
    cdef unsigned long code = ERR_get_error()
    cdef const char *text = ERR_reason_error_string(code) if code else NULL
    clear_errors()
    if text == NULL:
        text = "unknown failure"
    return text


cdef int failed(Tls *t, int result) noexcept nogil:
    """What a failed call of OpenSSL means: TLS_WANT, TLS_CLOSED or TLS_ERROR. The queue is empty afterwards."""
    cdef int kind = SSL_get_error(t.ssl, result)
    cdef unsigned long code
    if kind == SSL_ERROR_WANT_READ or kind == SSL_ERROR_WANT_WRITE:
        clear_errors()
        return TLS_WANT
    iobuf_free(&t.inbox)         # nothing behind the end will be read
    if kind == SSL_ERROR_ZERO_RETURN:
        clear_errors()
        t.closed = True
        return TLS_CLOSED
    code = ERR_peek_error()
    if ERR_GET_LIB(code) == ERR_LIB_SSL and ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED:
        t.why = X509_verify_cert_error_string(SSL_get_verify_result(t.ssl))
        t.unverified = True
        clear_errors()
    elif code == 0:
        t.why = "out of memory"  # our BIO fails for no other reason
    else:
        t.why = queued_error()
    return TLS_ERROR


# ---------------------------------------------------------------- the session, for either thread

cdef Tls *tls_new(SSL_CTX *ctx) noexcept nogil:
    """NULL when memory is exhausted."""
    cdef Tls *t = <Tls*>calloc(1, sizeof(Tls))
    cdef BIO *bio
    if t == NULL:
        return NULL
    bio = BIO_new(bio_method)
    t.ssl = SSL_new(ctx)
    if bio == NULL or t.ssl == NULL:
        BIO_free(bio)
        SSL_free(t.ssl)
        free(t)
        clear_errors()
        return NULL
    BIO_set_data(bio, t)
    BIO_set_init(bio, 1)
    SSL_set_bio(t.ssl, bio, bio)  # takes the one reference we have
    tls_count(1)
    return t


cdef void tls_free(Tls *t) noexcept nogil:
    """Frees the session and whatever its buffers hold; NULL is allowed."""
    if t == NULL:
        return
    SSL_free(t.ssl)
    iobuf_free(&t.inbox)
    iobuf_free(&t.outbox)
    iobuf_free(&t.held)
    free(t)
    tls_count(-1)
    clear_errors()


cdef int tls_feed(Tls *t, const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Appends ciphertext; 0, or -1 when memory is exhausted. What comes after the end of the session is dropped."""
    if t.closed or t.why != NULL:
        return 0
    return iobuf_put(&t.inbox, p, n)


cdef int tls_handshake(Tls *t) noexcept nogil:
    """1 when finished; TLS_WANT, TLS_CLOSED, TLS_ERROR. Send the outbox after every call, also after a failure."""
    cdef int result
    if t.why != NULL:
        return TLS_ERROR
    clear_errors()
    result = SSL_do_handshake(t.ssl)
    if result != 1:
        return failed(t, result)
    clear_errors()
    return 1


cdef int write_held(Tls *t) noexcept nogil:
    """Encrypts what had to wait; 0 (done, or still waiting), or TLS_ERROR."""
    cdef size_t done
    if SSL_write_ex(t.ssl, t.held.data + t.held.pos, iobuf_len(&t.held), &done):
        iobuf_free(&t.held)      # without partial-write mode OpenSSL takes all or nothing
        return 0
    return failed(t, 0)


cdef Py_ssize_t tls_read(Tls *t, uint8_t *p, Py_ssize_t cap) noexcept nogil:
    """Up to `cap` bytes of plaintext; TLS_WANT, TLS_CLOSED or TLS_ERROR when there is none.

    What comes behind the last plaintext byte (closure, failure) is told by the next call; `tls_pending` is true until
    then. May add to the outbox.
    """
    cdef Py_ssize_t total = 0
    cdef size_t got
    cdef uint32_t out
    if t.why != NULL or t.closed:
        t.untold = False
        return TLS_ERROR if t.why != NULL else TLS_CLOSED
    if cap <= 0 or not tls_pending(t):
        return TLS_WANT
    clear_errors()
    out = iobuf_len(&t.outbox)
    while total < cap:
        if SSL_read_ex(t.ssl, p + total, cap - total, &got) == 0:
            failed(t, 0)
            break
        total += <Py_ssize_t>got
        if not tls_pending(t):
            break                # saves the call that would only say "want"
    if total:
        t.chatter = 0
    elif iobuf_len(&t.outbox) > out and t.why == NULL:
        # Key updates and refused renegotiations cost us an answer each; a peer that sends nothing else is no client.
        t.chatter += 1
        if t.chatter >= CHATTER_LIMIT:
            t.why = "peer sends nothing but handshake messages"
    if iobuf_len(&t.held) and t.why == NULL:
        write_held(t)
    clear_errors()
    if total:
        t.untold = t.closed or t.why != NULL
        return total
    return TLS_ERROR if t.why != NULL else TLS_CLOSED if t.closed else TLS_WANT


cdef Py_ssize_t tls_write(Tls *t, const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Takes all `n` bytes, whatever `n` is, or TLS_ERROR; the ciphertext lands in the outbox.

    In TLS 1.3 the peer may stop in the middle of a post-handshake message (ticket, key update). OpenSSL refuses to
    write until the rest has arrived: the plaintext waits in `held` and follows with the `tls_read` that completes it.
    """
    cdef size_t done
    if t.why != NULL:
        return TLS_ERROR
    if n <= 0:
        return 0
    clear_errors()
    if iobuf_len(&t.held):
        if iobuf_len(&t.held) > HELD_LIMIT:
            t.why = "peer leaves a handshake message unfinished"
            return TLS_ERROR
        if iobuf_put(&t.held, p, n) < 0:
            t.why = "out of memory"
            return TLS_ERROR
        return TLS_ERROR if write_held(t) == TLS_ERROR else n
    # One growth of the outbox instead of one per doubling.
    if iobuf_reserve(&t.outbox, n + (n // RECORD + 1) * RECORD_EXTRA) < 0:
        t.why = "out of memory"
        return TLS_ERROR
    if SSL_write_ex(t.ssl, p, n, &done) == 0:
        if failed(t, 0) != TLS_WANT:
            return TLS_ERROR
        if iobuf_len(&t.outbox) == 0:
            iobuf_free(&t.outbox)    # the room reserved above
        if iobuf_put(&t.held, p, n) < 0:
            t.why = "out of memory"
            return TLS_ERROR
    clear_errors()
    return n


cdef bint tls_pending(Tls *t) noexcept nogil:
    """Has `tls_read` something to do or to tell? False after one that wanted more, even in mid-record: no busy loop."""
    if t.closed or t.why != NULL:
        return t.untold
    return iobuf_len(&t.inbox) > 0 or SSL_pending(t.ssl) > 0


cdef void tls_shutdown(Tls *t) noexcept nogil:
    """Puts close_notify into the outbox, once. Nothing can be written afterwards; reading goes on."""
    if t.why != NULL or SSL_in_init(t.ssl):
        return                   # OpenSSL forbids it after a failure; before the end of a handshake nothing is open
    clear_errors()
    SSL_shutdown(t.ssl)
    clear_errors()


cdef const char *tls_why(const Tls *t) noexcept nogil:
    """The failure in words, a static string; empty while all is well."""
    if t.why == NULL:
        return ""
    return t.why


# ---------------------------------------------------------------- the session, for the front thread

cdef object end_hash(X509 *cert):
    """tls-server-end-point (RFC 5929, 4.1), or None where the RFC defines no hash (Ed25519)."""
    cdef int md = NID_undef
    cdef unsigned int n = 0
    cdef unsigned char out[EVP_MAX_MD_SIZE]
    cdef const EVP_MD *how
    if cert == NULL:
        return None
    X509_get_signature_info(cert, &md, NULL, NULL, NULL)   # knows RSA-PSS too, where the hash is a parameter
    if md == NID_md5 or md == NID_sha1:
        md = NID_sha256
    how = EVP_get_digestbynid(md) if md != NID_undef else NULL
    if how == NULL or not X509_digest(cert, how, out, &n):
        clear_errors()
        return None
    clear_errors()
    return (<const char*>out)[:n]


cdef Tls *own(TlsSession session) except NULL:
    if session.t == NULL:
        raise RuntimeError("this TLS session has moved to another owner")
    return session.t


cdef object error(Tls *t):
    """The exception for a session that has failed."""
    text = tls_why(t).decode()
    return TlsError(f"certificate verify failed: {text}" if t.unverified else text)


cdef class TlsSession:
    """One side of one connection. Made by `ServerContext.session()` or `ClientContext.session(name)`.

    Feed what was received, send what `take()` returns after every call that may have produced something (`handshake`,
    `read`, `write`, `shutdown`), also after an exception: it may be the alert that tells the peer why.
    """

    def __init__(self):
        raise TypeError("sessions are made by a context's session()")

    def __dealloc__(self):
        tls_free(self.t)

    cdef Tls *detach(self) except NULL:
        """Moves the session out, to be freed with `tls_free`; this object is empty from now on."""
        cdef Tls *t = own(self)
        self.t = NULL
        return t

    def feed(self, bytes data not None):
        if tls_feed(own(self), <const uint8_t*>PyBytes_AS_STRING(data), len(data)) < 0:
            raise MemoryError("TLS input")

    def take(self):
        """Ciphertext to send, all there is."""
        cdef Tls *t = own(self)
        cdef Py_ssize_t n = iobuf_len(&t.outbox)
        if n == 0:
            return b""
        data = (<const char*>t.outbox.data + t.outbox.pos)[:n]
        iobuf_take(&t.outbox, n)
        return data

    def handshake(self):
        """True when finished, False to be called again with more input."""
        cdef Tls *t = own(self)
        cdef int result
        with nogil:
            result = tls_handshake(t)
        if result == TLS_ERROR:
            raise error(t)
        if result == TLS_CLOSED:
            raise TlsClosed("the peer closed the TLS session during the handshake")
        return result == 1

    def read(self, Py_ssize_t n=RECORD):
        """Up to `n` bytes of plaintext; b"" means feed more."""
        cdef Tls *t = own(self)
        cdef bytes data
        cdef Py_ssize_t got
        if n <= 0:
            raise ValueError("read at least one byte")
        if not tls_pending(t) and t.why == NULL and not t.closed:
            return b""
        data = PyBytes_FromStringAndSize(NULL, n)
        got = tls_read(t, <uint8_t*>PyBytes_AS_STRING(data), n)
        if got == TLS_ERROR:
            raise error(t)
        if got == TLS_CLOSED:
            raise TlsClosed("the peer closed the TLS session")
        return data if got == n else data[:got]

    def write(self, bytes data not None):
        """Takes all of `data`."""
        cdef Tls *t = own(self)
        if tls_write(t, <const uint8_t*>PyBytes_AS_STRING(data), len(data)) == TLS_ERROR:
            raise error(t)

    def shutdown(self):
        tls_shutdown(own(self))

    def own_certificate_hash(self):
        """What SCRAM-SHA-256-PLUS binds to when we are the server; None when the certificate has no such hash."""
        return end_hash(SSL_get_certificate(own(self).ssl))

    def peer_certificate_hash(self):
        """What SCRAM-SHA-256-PLUS binds to when we are the client; None without a certificate or such a hash."""
        return end_hash(SSL_get0_peer_certificate(own(self).ssl))

    def peer_certificate(self):
        """DER, or None. Trusted only as far as the context verifies it."""
        cdef X509 *cert = SSL_get0_peer_certificate(own(self).ssl)
        cdef unsigned char *der = NULL
        cdef int n
        if cert == NULL:
            return None
        n = i2d_X509(cert, &der)
        if n < 0:
            raise TlsError(queued_error().decode())
        try:
            return (<const char*>der)[:n]
        finally:
            OPENSSL_free(der)

    @property
    def peer_common_name(self):
        """The first CN of the peer's certificate, or None. A NUL in it is an attack on whoever compares it: refused."""
        cdef X509 *cert = SSL_get0_peer_certificate(own(self).ssl)
        cdef X509_NAME *name
        cdef unsigned char *text = NULL
        cdef int at, n
        if cert == NULL:
            return None
        name = X509_get_subject_name(cert)
        at = X509_NAME_get_index_by_NID(name, NID_commonName, -1)
        if at < 0:
            return None
        n = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)))
        if n < 0:
            raise TlsError(queued_error().decode())
        try:
            common_name = (<const char*>text)[:n].decode("utf-8", "replace")
        finally:
            OPENSSL_free(text)
        if "\0" in common_name:
            raise TlsError("the certificate's common name contains a null byte")
        return common_name

    @property
    def version(self):
        """"TLSv1.3", or None before the end of the handshake."""
        cdef Tls *t = own(self)
        return SSL_get_version(t.ssl).decode() if SSL_is_init_finished(t.ssl) else None

    @property
    def cipher(self):
        cdef const SSL_CIPHER *cipher = SSL_get_current_cipher(own(self).ssl)
        return SSL_CIPHER_get_name(cipher).decode() if cipher != NULL else None

    @property
    def alpn(self):
        """The protocol agreed upon, or None when the client offered none (direct TLS must refuse that)."""
        cdef const unsigned char *p = NULL
        cdef unsigned int n = 0
        SSL_get0_alpn_selected(own(self).ssl, &p, &n)
        return (<const char*>p)[:n].decode("latin-1") if n else None

    @property
    def resumed(self):
        """Did the client come back with a session ticket?"""
        return bool(SSL_session_reused(own(self).ssl))

    @property
    def unread(self):
        """Has `read()` something to do or to tell, without another `feed()`?"""
        return bool(tls_pending(own(self)))

    @property
    def memory(self):
        """Bytes of buffers we own (OpenSSL's own memory is not counted); zero when idle."""
        cdef Tls *t = own(self)
        return t.inbox.cap + t.outbox.cap + t.held.cap


cdef class TlsDoor:
    """A session as the relay uses it, for tests: takes over a `TlsSession` and shows the C functions' own results."""
    cdef Tls *t

    def __init__(self, TlsSession session not None):
        if self.t != NULL:
            raise TypeError("this door has its session already")
        self.t = session.detach()

    def __dealloc__(self):
        tls_free(self.t)

    def feed(self, bytes data not None):
        return tls_feed(self.t, <const uint8_t*>PyBytes_AS_STRING(data), len(data))

    def handshake(self): return tls_handshake(self.t)

    def read(self, Py_ssize_t cap):
        """The plaintext, or the result as an int."""
        cdef bytes data = PyBytes_FromStringAndSize(NULL, max(cap, 1))
        cdef Py_ssize_t got = tls_read(self.t, <uint8_t*>PyBytes_AS_STRING(data), cap)
        return data[:got] if got > 0 else got

    def write(self, bytes data not None):
        return tls_write(self.t, <const uint8_t*>PyBytes_AS_STRING(data), len(data))

    def shutdown(self): tls_shutdown(self.t)

    def take(self):
        data = (<const char*>self.t.outbox.data + self.t.outbox.pos)[:iobuf_len(&self.t.outbox)]
        iobuf_take(&self.t.outbox, len(data))
        return data

    def update_keys(self):
        """Ask the peer for new keys (goes out with the next write)."""
        return SSL_key_update(self.t.ssl, SSL_KEY_UPDATE_REQUESTED)

    def cut_records(self, long n):
        """Send records of at most `n` bytes."""
        return SSL_set_max_send_fragment(self.t.ssl, n)

    @property
    def pending(self): return bool(tls_pending(self.t))

    @property
    def unsent(self): return tls_unsent(self.t)

    @property
    def held(self): return iobuf_len(&self.t.held)

    @property
    def memory(self): return self.t.inbox.cap + self.t.outbox.cap + self.t.held.cap

    @property
    def why(self): return tls_why(self.t).decode()


include "_tls_context.pxi"     # the same module in a second file: contexts make sessions, sessions know no context
