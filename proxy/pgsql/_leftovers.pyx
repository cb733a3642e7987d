"""What is left of a session on a server that could be met by the next one: asked in one query. Sans-IO.

One column for each kind of state that a server can be asked for, by PinReason, and one with the names of the settings that were
changed. It is asked outside of transactions, so what transactions take along themselves is gone. Every name in it, operators
included, says its schema: the session's search_path may hold others of the same name.

Sources: PostgreSQL manual, 53.1 to 53.25 (system views), 9.27.1 (pg_my_temp_schema), 9.27.10 (advisory locks). Every object in a
temporary schema depends on it, be it a table, a function or a type, so pg_depend knows of them all.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport strlen

from proxy._reasons cimport PinReason
from proxy._wire cimport IoBuf, Reader, iobuf_free, iobuf_put, read_bytes, read_u16, read_u32, reader, store_u32
from proxy.pgsql cimport _protocol as p

from proxy.reasons import PinReason as Reasons

cdef enum:
    QUESTIONS = 6

cdef struct Question:
    PinReason about
    const char *text

_TEXTS = (
    (
        PinReason.PIN_ADVISORY_LOCK,
        b"SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) 'advisory'"
        b" AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
    ),
    (
        PinReason.PIN_TEMPORARY_OBJECT,
        b"SELECT FROM pg_catalog.pg_depend"
        b" WHERE refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass"
        b" AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()",
    ),
    (PinReason.PIN_LISTEN, b"SELECT FROM pg_catalog.pg_listening_channels()"),
    (PinReason.PIN_CURSOR, b"SELECT FROM pg_catalog.pg_cursors WHERE is_holdable"),
    (PinReason.PIN_PREPARED_SQL, b"SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql"),
    (
        PinReason.PIN_PREPARED_PROTOCOL,
        b"SELECT FROM pg_catalog.pg_prepared_statements"
        b" WHERE NOT from_sql AND name OPERATOR(pg_catalog.!~) '^slw_[0-9a-f]+$'",
    ),
)
cdef Question[QUESTIONS] ASKED
cdef uint64_t ASKABLE = 0


cdef int _fill() except -1:
    global ASKABLE
    cdef int i
    for i, (about, text) in enumerate(_TEXTS):
        ASKED[i].about = about
        ASKED[i].text = <const char*>(<bytes>text)
        ASKABLE |= <uint64_t>1 << <int>ASKED[i].about
    return 0


_fill()


cdef uint64_t leftovers_askable() noexcept nogil:
    """Bits of the PinReasons whose cause a server can be asked for."""
    return ASKABLE


cdef inline bint _text(IoBuf *out, const char *text) noexcept nogil:
    return iobuf_put(out, <const uint8_t*>text, <Py_ssize_t>strlen(text)) == 0


cdef int leftovers_ask(uint64_t pins, bint settings, IoBuf *out) noexcept nogil:
    """Appends a Query for what `pins` (bits by PinReason) are about, and, if so wished, for the names of changed settings, which
    costs the server most of the time. 0, or -1 without memory."""
    cdef uint8_t head[5]
    cdef Py_ssize_t at = out.end
    cdef int i
    head[0] = p.QUERY
    if iobuf_put(out, &head[0], 5) < 0 or not _text(out, b"/* sluiceway: what is left of this session? */ SELECT "):
        return -1
    for i in range(QUESTIONS):
        if not pins >> <int>ASKED[i].about & 1:
            if not _text(out, b"false,"):
                return -1
        elif not (_text(out, b"EXISTS(") and _text(out, ASKED[i].text) and _text(out, b"),")):
            return -1
    if settings:
        if not _text(
            out,
            b"(SELECT pg_catalog.string_agg(pg_catalog.lower(name), ',') FROM pg_catalog.pg_settings"
            b" WHERE source OPERATOR(pg_catalog.=) 'session')"
        ):
            return -1
    elif not _text(out, b"NULL"):
        return -1
    if iobuf_put(out, <const uint8_t*>b"", 1) < 0:
        return -1
    store_u32(out.data + at + 1, <uint32_t>(out.end - at - 1))
    return 0


cdef bint leftovers_answer(
    const uint8_t *row, Py_ssize_t n, uint64_t *left, const uint8_t **names, Py_ssize_t *size,
) noexcept nogil:
    """The whole DataRow with the answer: `left`, what is there; `names`, of changed settings, comma between them. False if it is
    none that could be meant."""
    cdef Reader d = reader(row + 5, n - 5)
    cdef const uint8_t *value
    cdef int32_t length
    cdef int i
    left[0] = 0
    names[0] = NULL
    size[0] = 0
    if read_u16(&d) != QUESTIONS + 1:
        return False
    for i in range(QUESTIONS):
        length = <int32_t>read_u32(&d)
        value = read_bytes(&d, 1) if length == 1 else NULL
        if not d.ok or value == NULL or (value[0] != 0x74 and value[0] != 0x66):     # t, f
            return False
        if value[0] == 0x74:
            left[0] |= <uint64_t>1 << <int>ASKED[i].about
    length = <int32_t>read_u32(&d)
    if length >= 0:
        names[0] = read_bytes(&d, length)
        size[0] = length
    return d.ok and (length < 0 or names[0] != NULL) and d.at == d.end


cdef class LeftoversDoor:
    """The functions above for tests."""

    @staticmethod
    def askable():
        return {reason for reason in Reasons if ASKABLE >> int(reason) & 1}

    @staticmethod
    def ask(pins not None, bint settings=True):
        cdef IoBuf out
        cdef uint64_t mask = 0
        for reason in pins:
            mask |= <uint64_t>1 << int(reason)
        out.data = NULL
        out.pos = out.end = out.cap = 0
        leftovers_ask(mask, settings, &out)
        made = (<const uint8_t*>out.data)[:out.end]
        iobuf_free(&out)
        return made

    @staticmethod
    def answer(bytes row not None):
        """-> (what is there, names of settings), or None"""
        cdef uint64_t left = 0
        cdef const uint8_t *names = NULL
        cdef Py_ssize_t size = 0
        if not leftovers_answer(<const uint8_t*>row, len(row), &left, &names, &size):
            return None
        return {reason for reason in Reasons if left >> int(reason) & 1}, names[:size] if names != NULL else b""
