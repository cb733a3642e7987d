"""The server's side of PostgreSQL protocol 3, after login: sans-IO, knows no socket, session or client.

`backend_step` answers for the first `n` bytes of a `View`: FORWARD or SWALLOW (the queue of replies owed decides), NEED_DATA, or
VIOLATION. Five kinds of message are shown whole, because somebody must read or change them: ReadyForQuery, CommandComplete,
NotificationResponse, ParameterStatus, and the head of an ErrorResponse. Everything else may pass in pieces; runs of
DataRow and CopyData pass in one step.

A server is not trusted either: unknown types, impossible lengths and answers nobody asked for are violations, and the
connection is closed rather than reused.
"""

from libc.string cimport memcmp, memcpy

from proxy._wire cimport FORWARD, NEED_DATA, SWALLOW, VIOLATION, Reader, load_u32, read_cstr, read_u8, reader
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport (
    REPLY_SWALLOW, REPLY_VIOLATION, owed_at, owed_free, owed_init, owed_plain, owed_reply, owed_request,
)

from proxy._wire import Step as Steps

cdef enum Whole_:
    ERROR_HEAD = 256             # bytes of an ErrorResponse that certainly hold S, V and C, which come first
    MAX_WHOLE = 60000            # bytes; larger reports or notifications (payload limit 8000) come from no PostgreSQL


cdef void backend_init(Backend *b) noexcept nogil:
    b.kind = 0
    b.begins = 0
    b.ends = 0
    b.fault = BE_OK
    b.tx_status = 0
    b.verdict = 0
    b.fatal = 0
    b.sqlstate[0] = 0
    b.left = 0
    owed_init(&b.owed)


cdef void backend_free(Backend *b) noexcept nogil:
    owed_free(&b.owed)


cdef enum Shown_:
    SHOWN_KNOWN = 1
    SHOWN_WHOLE = 2              # never in pieces
    SHOWN_RUNS = 4               # many in one step
    SHOWN_PLAIN = 8              # leaves everything as it is, where it answers a Query

cdef struct Form:                # of a message type
    uint32_t least, most         # its length word
    uint8_t shown                # Shown_; 0: no such type

cdef Form[256] FORMS


cdef int _fill_forms() except -1:
    bare = "123nsIc"             # no body
    for kind in bare:
        FORMS[ord(kind)] = Form(least=4, most=4, shown=SHOWN_KNOWN)
    for kind in "DTtENdGHWV":
        FORMS[ord(kind)] = Form(least=4, most=p.MAX_ANSWER, shown=SHOWN_KNOWN | (SHOWN_RUNS if kind in "Dd" else 0))
    for kind, least, most in (("Z", 5, 5), ("A", 10, MAX_WHOLE), ("S", 6, MAX_WHOLE), ("C", 5, MAX_WHOLE)):
        FORMS[ord(kind)] = Form(least=least, most=most, shown=SHOWN_KNOWN | SHOWN_WHOLE)
    for kind in "TDCI":
        FORMS[ord(kind)].shown |= SHOWN_PLAIN
    return 0


_fill_forms()


cdef void _read_error(Backend *b, const uint8_t *body, Py_ssize_t n) noexcept nogil:
    """Severity and SQLSTATE; an ErrorResponse without a SQLSTATE is survivable (edge case 64)."""
    cdef Reader r = reader(body, n)
    cdef uint8_t field
    cdef const uint8_t *text
    cdef Py_ssize_t size
    b.sqlstate[0] = 0
    while True:
        field = read_u8(&r)
        if not r.ok or field == 0:
            return
        text = read_cstr(&r, &size)
        if text == NULL:
            return
        # V is the severity that is never translated (9.6 and later); S serves older servers
        if field == 0x56 or field == 0x53:
            if (size == 5 and (memcmp(text, b"FATAL", 5) == 0 or memcmp(text, b"PANIC", 5) == 0)):
                b.fatal = 1
        elif field == 0x43:
            if size == 5:
                memcpy(&b.sqlstate[0], text, 5)
            return


cdef inline Py_ssize_t _run_length(const View *v, uint8_t kind) noexcept nogil:
    """Bytes at the head of `v` that are whole messages of `kind`, with a legal length; 0 if none."""
    cdef const uint8_t *at = v.at
    cdef uint32_t length
    while v.end - at >= 5 and at[0] == kind:
        length = load_u32(at + 1)
        if length < 4 or length > p.MAX_ANSWER or v.end - at < <Py_ssize_t>length + 1:
            break
        at += length + 1
    return at - v.at


cdef Py_ssize_t backend_plain(const Backend *b, const View *v) noexcept nogil:
    """Bytes at the head that are whole messages and, as parts of the answer to a plain Query, change nothing: most of a result."""
    cdef const uint8_t *at = v.at
    cdef uint32_t length
    if b.kind != 0 or not owed_plain(&b.owed):
        return 0
    while v.end - at >= 5 and FORMS[at[0]].shown & SHOWN_PLAIN:
        length = load_u32(at + 1)
        if length < FORMS[at[0]].least or length > FORMS[at[0]].most or v.end - at < <Py_ssize_t>length + 1:
            break
        at += length + 1
    return at - v.at


cdef Step backend_step(Backend *b, const View *v, Py_ssize_t *n) noexcept nogil:
    cdef Py_ssize_t have = v.end - v.at
    cdef uint32_t length
    cdef uint8_t kind
    cdef const Form *form
    cdef View rest
    n[0] = 0
    b.begins = 0
    b.ends = 0
    if b.kind == 0:
        if have < 1:
            return NEED_DATA
        kind = v.at[0]
        form = &FORMS[kind]
        if form.shown == 0:
            b.fault = BE_UNKNOWN_TYPE
            return VIOLATION
        if have < 5:
            return NEED_DATA
        length = load_u32(v.at + 1)
        if length < form.least or length > form.most:
            b.fault = BE_BAD_LENGTH
            return VIOLATION
        if have < <Py_ssize_t>length + 1:
            if form.shown & SHOWN_WHOLE or (kind == p.ERROR_RESPONSE and have < ERROR_HEAD):
                return NEED_DATA
        if kind == p.READY_FOR_QUERY:
            if v.at[5] != p.TX_IDLE and v.at[5] != p.TX_OPEN and v.at[5] != p.TX_FAILED:
                b.fault = BE_BAD_STATUS
                return VIOLATION
            b.tx_status = v.at[5]
        elif kind == p.ERROR_RESPONSE:
            # never more than the head, however much is here: what is understood must not depend on how it was cut
            _read_error(b, v.at + 5, min(have, <Py_ssize_t>length + 1, <Py_ssize_t>ERROR_HEAD) - 5)
        b.verdict = owed_reply(&b.owed, kind)
        if b.verdict == REPLY_VIOLATION:
            b.fault = BE_UNEXPECTED
            return VIOLATION
        b.kind = kind
        b.left = length + 1
        b.begins = 1
        if form.shown & SHOWN_RUNS and have >= <Py_ssize_t>b.left:
            rest.at = v.at + b.left
            rest.end = v.end
            n[0] = <Py_ssize_t>b.left + _run_length(&rest, kind)
            b.left = 0
            b.ends = 1
            b.kind = 0
            return SWALLOW if b.verdict == REPLY_SWALLOW else FORWARD
    if have > <Py_ssize_t>b.left:
        have = b.left
    b.left -= <uint32_t>have
    n[0] = have
    if b.left == 0:
        b.ends = 1
        b.kind = 0
    return SWALLOW if b.verdict == REPLY_SWALLOW else FORWARD


cdef class BackendDoor:
    """The engine for tests, fuzzers and tools: `feed(bytes)` -> [(Step, n, kind, begins, ends), ...]; `request(OwedKind)`."""
    cdef Backend b
    cdef bytearray rest

    def __cinit__(self):
        backend_init(&self.b)
        self.rest = bytearray()

    def __dealloc__(self):
        backend_free(&self.b)

    def request(self, int entry, uint32_t argument=0):
        if owed_request(&self.b.owed, <uint8_t>entry, argument) < 0:
            raise MemoryError

    @property
    def fault(self): return BackendFault(self.b.fault)

    @property
    def tx_status(self): return chr(self.b.tx_status) if self.b.tx_status else ""

    @property
    def fatal(self): return bool(self.b.fatal)

    @property
    def sqlstate(self): return bytes(self.b.sqlstate[:5]).decode("ascii", "replace") if self.b.sqlstate[0] else ""

    @property
    def owed(self): return [owed_at(&self.b.owed, i) for i in range(self.b.owed.count)]

    @property
    def skipping(self): return bool(self.b.owed.skipping)

    @property
    def in_doubt(self): return bool(self.b.owed.in_doubt)

    @property
    def kept(self): return len(self.rest)

    def feed(self, bytes data not None):
        cdef View v
        cdef Py_ssize_t n
        cdef Step s
        cdef uint8_t kind
        self.rest += data
        buf = bytes(self.rest)
        v.at = <const uint8_t*>buf
        v.end = v.at + len(buf)
        out = []
        while v.at < v.end and not self.b.fault:
            kind = self.b.kind or v.at[0]
            s = backend_step(&self.b, &v, &n)
            if s == NEED_DATA:
                break
            out.append((Steps(s), n, chr(kind), bool(self.b.begins), bool(self.b.ends)))
            v.at += n
        self.rest = bytearray(buf[len(buf) - (v.end - v.at):]) if v.at < v.end else bytearray()
        return out
