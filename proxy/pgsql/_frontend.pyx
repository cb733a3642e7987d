"""The client's side of PostgreSQL protocol 3, after login: sans-IO, knows no socket, session or server.

`frontend_step` looks at the bytes in a `View` and answers for the first `n` of them. It always forwards: what a message
*means* is in the struct (`kind`, `begins`, `ends`, `touches`), and the session decides what to do about it. A message may
be larger than any buffer; its text then passes through the lexer in pieces and `touches` is known when it ends.

Refused as a violation: unknown types (so that a new protocol message is never passed on half understood) and lengths that
PostgreSQL itself would refuse (edge case 65). Message *bodies* are the server's to judge: it answers with its own errors.
"""

from libc.string cimport memchr

from proxy._reasons cimport PinReason
from proxy._wire cimport FORWARD, NEED_DATA, VIOLATION, load_u32
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport (
    OWED_BIND, OWED_CLOSE, OWED_COPY_END, OWED_DESCRIBE, OWED_EXECUTE, OWED_FUNCTION, OWED_NOTHING, OWED_PARSE,
    OWED_QUERY, OWED_SYNC,
)
from proxy.sql._lex cimport POSTGRESQL, lex_end, lex_feed, lex_start

from proxy._wire import Step as Steps

cdef enum Sizes_:
    NAMES_BYTES = 32768          # a head of Parse, Bind, Describe or Close in which its names must have ended
    WHOLE_BYTES = 65536          # a Parse up to this size is shown whole


cdef enum Part_:
    PART_REST = 0                # nothing more of interest
    PART_NAME = 1                # the statement name of a Parse
    PART_TEXT = 2                # SQL


cdef void frontend_init(Frontend *f) noexcept nogil:
    f.kind = 0
    f.owed = OWED_NOTHING
    f.part = PART_REST
    f.begins = 0
    f.ends = 0
    f.named = 0
    f.fault = FE_OK
    f.std_strings = 1
    f.ascii_safe = 1
    f.left = 0
    f.touches = 0
    f.defer = 0
    f.whole = 0
    f.object = 0
    f.name_at = 0
    f.name_size = 0


cdef struct Form:                # of a message type
    uint32_t least, most         # its length word: the bounds of SocketBackend() in postgres.c, the least by its own fields
    uint8_t known
    uint8_t owed                 # OwedKind: what the server will owe for it
    uint8_t names                # a statement or a portal, at its begin

cdef Form[256] FORMS


cdef int _fill_forms() except -1:
    cdef Form form
    for kind, owed, least, most in (
        ("Q", OWED_QUERY, 5, p.MAX_MESSAGE), ("P", OWED_PARSE, 8, p.MAX_MESSAGE), ("B", OWED_BIND, 12, p.MAX_MESSAGE),
        ("F", OWED_FUNCTION, 14, p.MAX_MESSAGE), ("d", OWED_NOTHING, 4, p.MAX_MESSAGE),
        ("E", OWED_EXECUTE, 9, p.MAX_SMALL_MESSAGE), ("D", OWED_DESCRIBE, 6, p.MAX_SMALL_MESSAGE),
        ("C", OWED_CLOSE, 6, p.MAX_SMALL_MESSAGE), ("f", OWED_COPY_END, 5, p.MAX_SMALL_MESSAGE),
        ("S", OWED_SYNC, 4, 4), ("H", OWED_NOTHING, 4, 4), ("X", OWED_NOTHING, 4, 4), ("c", OWED_COPY_END, 4, 4),
    ):
        form = Form(least=least, most=most, known=1, owed=owed, names=kind in "PBDC")
        FORMS[ord(kind)] = form
    return 0


_fill_forms()


cdef Step frontend_peek(const View *v, uint32_t *length) noexcept nogil:
    """The head of a message, without taking it: FORWARD with its length word, NEED_DATA, or VIOLATION."""
    cdef const Form *form
    if v.end - v.at < 1:
        return NEED_DATA
    form = &FORMS[v.at[0]]
    if not form.known:
        return VIOLATION
    if v.end - v.at < 5:
        return NEED_DATA
    length[0] = load_u32(v.at + 1)
    return FORWARD if form.least <= length[0] <= form.most else VIOLATION


cdef Step _names(Frontend *f, const View *v, uint32_t length) noexcept nogil:
    """Finds the statement name in the head of a message; NEED_DATA until it is all there."""
    cdef const uint8_t *at = v.at + 5
    # never further than the bound, however much is here: what is refused must not depend on how it was cut
    cdef const uint8_t *end = v.at + min(v.end - v.at, <Py_ssize_t>length + 1, <Py_ssize_t>NAMES_BYTES)
    cdef const uint8_t *nul
    cdef uint8_t kind = v.at[0]
    cdef int skip = 1 if kind == p.BIND else 0     # Bind has the portal's name first
    if kind == p.DESCRIBE or kind == p.CLOSE:
        if at == end:
            return NEED_DATA
        f.object = at[0]
        at += 1
    while True:
        nul = <const uint8_t*>memchr(at, 0, end - at) if end > at else NULL
        if nul == NULL:
            if end - v.at == <Py_ssize_t>length + 1 or end - v.at >= NAMES_BYTES:
                f.fault = FE_BAD_NAME
                return VIOLATION
            return NEED_DATA
        if skip == 0:
            break
        skip -= 1
        at = nul + 1
    f.name_at = <uint32_t>(at - v.at)
    f.name_size = <uint32_t>(nul - at)
    return FORWARD


cdef void _text(Frontend *f, const uint8_t *at, Py_ssize_t n) noexcept nogil:
    """Bytes of a Parse or Query body: find the SQL in them and show it to the lexer."""
    cdef const uint8_t *nul
    if f.part == PART_NAME and n:
        nul = <const uint8_t*>memchr(at, 0, n)
        if nul != at:
            f.named = 1
        if nul == NULL:
            return
        n -= nul + 1 - at
        at = nul + 1
        f.part = PART_TEXT
    if f.part == PART_TEXT and n:
        nul = <const uint8_t*>memchr(at, 0, n)
        if nul == NULL:
            lex_feed(&f.lex, at, n)
            return
        lex_feed(&f.lex, at, nul - at)
        f.part = PART_REST


cdef Step frontend_step(Frontend *f, const View *v, Py_ssize_t *n) noexcept nogil:
    cdef Py_ssize_t have = v.end - v.at
    cdef Py_ssize_t head = 0
    cdef uint32_t length = 0
    cdef Step step
    n[0] = 0
    f.begins = 0
    f.ends = 0
    if f.kind == 0:
        step = frontend_peek(v, &length)
        if step != FORWARD:
            if step == VIOLATION:
                f.fault = FE_BAD_LENGTH if FORMS[v.at[0]].known else FE_UNKNOWN_TYPE
            return step
        f.whole = have >= <Py_ssize_t>length + 1
        f.object = 0
        if FORMS[v.at[0]].names:
            if v.at[0] == p.PARSE and not f.whole and length < WHOLE_BYTES:
                return NEED_DATA
            step = _names(f, v, length)
            if step != FORWARD:
                return step
        f.kind = v.at[0]
        f.owed = FORMS[f.kind].owed
        f.left = length + 1
        f.begins = 1
        f.touches = 0
        f.named = 0
        f.part = PART_REST
        head = 5
        if f.kind == p.QUERY or (f.kind == p.PARSE and not (f.defer and f.whole)):
            f.part = PART_TEXT if f.kind == p.QUERY else PART_NAME
            lex_start(&f.lex, POSTGRESQL, f.std_strings, f.ascii_safe)
    if have > <Py_ssize_t>f.left:
        have = f.left
    if f.part != PART_REST:
        _text(f, v.at + head, have - head)
    f.left -= <uint32_t>have
    n[0] = have
    if f.left == 0:
        f.ends = 1
        if f.kind == p.QUERY or (f.kind == p.PARSE and not (f.defer and f.whole)):
            f.touches = lex_end(&f.lex)
            if f.named:
                f.touches |= <uint64_t>1 << <int>PinReason.PIN_PREPARED_PROTOCOL
        f.kind = 0
    return FORWARD


cdef class FrontendDoor:
    """The engine for tests, fuzzers and tools: `feed(bytes)` -> [(Step, n, kind, begins, ends, touches), ...].

    Bytes that a step asks to keep are kept here until the next `feed`.
    """
    cdef Frontend f
    cdef bytearray rest

    def __cinit__(self, bint std_strings=True, bint ascii_safe=True):
        frontend_init(&self.f)
        self.f.std_strings = std_strings
        self.f.ascii_safe = ascii_safe
        self.rest = bytearray()

    @property
    def fault(self): return FrontendFault(self.f.fault)

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
        while v.at < v.end and not self.f.fault:
            kind = self.f.kind or v.at[0]
            s = frontend_step(&self.f, &v, &n)
            if s == NEED_DATA:
                break
            out.append((Steps(s), n, chr(kind), bool(self.f.begins), bool(self.f.ends), self.f.touches))
            v.at += n
        self.rest = bytearray(buf[len(buf) - (v.end - v.at):]) if v.at < v.end else bytearray()
        return out
