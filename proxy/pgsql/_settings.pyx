"""The settings of a session as an interned set, and the SQL that turns one set into another. Sans-IO.

A set is a `ParamSet` of all that a session has changed (or began with), by name in lower case; NULL is the empty one. Two
sessions with equal sets have one pointer, so a borrow compares once.

The replay is made to be pipelined in front of a client's request, which must never run where its settings failed to
arrive. An error in a simple Query skips nothing behind it, so the settings come in a transaction block of their own:

    BEGIN; SET "a" TO 'x'; RESET "b"; COMMIT

If one of them is refused, the block stays open and failed, and everything up to a ROLLBACK is refused as well (25P02). Inside
the client's own transaction the block is there already.

`role` and `session_authorization` are taken back first and set last: a setting may need the rights of the login user.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from proxy._wire cimport IoBuf, iobuf_free, iobuf_put, store_u32
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._params cimport (
    Item, ParamSet, ParamTable, params_difference, params_drop, params_get, params_init, params_next, params_order, params_put,
    params_share, params_without,
)
from proxy.sql._effects cimport LIST_MARK

cdef enum:
    REPORTABLE = 9

cdef struct Reported:            # settings that a session may change and the server reports (GUC_REPORT)
    const char *name             # as reported
    const char *key              # in a set
    Py_ssize_t size

cdef Reported[REPORTABLE] REPORTED
REPORTED[0] = Reported(b"application_name", b"application_name", 16)
REPORTED[1] = Reported(b"client_encoding", b"client_encoding", 15)
REPORTED[2] = Reported(b"DateStyle", b"datestyle", 9)
REPORTED[3] = Reported(b"IntervalStyle", b"intervalstyle", 13)
REPORTED[4] = Reported(b"TimeZone", b"timezone", 8)
REPORTED[5] = Reported(b"standard_conforming_strings", b"standard_conforming_strings", 27)
REPORTED[6] = Reported(b"default_transaction_read_only", b"default_transaction_read_only", 29)   # from 14
REPORTED[7] = Reported(b"scram_iterations", b"scram_iterations", 16)                             # from 16
REPORTED[8] = Reported(b"search_path", b"search_path", 11)                                       # from 18


cdef int _reportable(const uint8_t *message, Py_ssize_t n) noexcept nogil:
    cdef int i
    for i in range(REPORTABLE):
        if n > REPORTED[i].size + 6 and memcmp(message + 5, REPORTED[i].name, REPORTED[i].size + 1) == 0:
            return i
    return -1


cdef bint settings_reportable(const uint8_t *message, Py_ssize_t n) noexcept nogil:
    """Is this whole ParameterStatus about a setting that a session may change?"""
    return _reportable(message, n) >= 0


cdef bint settings_apart(const ParamSet *a, const ParamSet *b, const uint8_t *message, Py_ssize_t n) noexcept nogil:
    """… and one in which these two sets differ?"""
    cdef int i = _reportable(message, n)
    cdef Py_ssize_t size_a, size_b
    cdef const uint8_t *one
    cdef const uint8_t *other
    if i < 0:
        return False
    one = params_get(a, REPORTED[i].key, REPORTED[i].size, &size_a)
    other = params_get(b, REPORTED[i].key, REPORTED[i].size, &size_b)
    return (one == NULL) != (other == NULL) or size_a != size_b or (size_a != 0 and memcmp(one, other, size_a) != 0)


cdef ParamSet *settings_reported(
    ParamTable *t, ParamSet *s, const ParamSet *base, const ParamSet *born, const ParamSet *now, bint all,
) noexcept nogil:
    """`s` with the server's own words for the settings it reports; takes over the caller's reference.

    `now`: what the server reports; `born`: what it reported at its login; `base`: what the session began with. `all`: something
    was reported that no statement accounts for, so every one is looked at, not only those in `s`.
    """
    cdef int i
    cdef Py_ssize_t n, m
    cdef const uint8_t *value
    cdef const uint8_t *other
    cdef ParamSet *made
    for i in range(REPORTABLE):
        other = params_get(s, REPORTED[i].key, REPORTED[i].size, &m)
        if other == NULL and not all:
            continue
        value = params_get(now, REPORTED[i].name, REPORTED[i].size, &n)
        if value == NULL or (other != NULL and n == m and memcmp(value, other, n) == 0):
            continue
        other = params_get(born, REPORTED[i].name, REPORTED[i].size, &m)
        if (
            other != NULL and n == m and memcmp(value, other, n) == 0
            and params_get(base, REPORTED[i].key, REPORTED[i].size, &m) == NULL
        ):
            s = params_without(t, s, <const uint8_t*>REPORTED[i].key, REPORTED[i].size)
            continue
        made = params_put(t, s, <const uint8_t*>REPORTED[i].key, REPORTED[i].size, value, n)
        if made != NULL:
            s = made
    return s


cdef ParamSet *settings_tell(
    ParamTable *t, ParamSet *told, const ParamSet *base, const ParamSet *now, IoBuf *out,
) noexcept nogil:
    """A RESET has led the session back to `base`: appends the ParameterStatus messages that say so, and returns what has then been
    told; takes over the caller's reference to `told`."""
    cdef int i
    cdef Py_ssize_t n, m
    cdef const uint8_t *value
    cdef const uint8_t *other
    cdef ParamSet *made
    for i in range(REPORTABLE):
        value = params_get(base, REPORTED[i].key, REPORTED[i].size, &n)
        other = params_get(now, REPORTED[i].key, REPORTED[i].size, &m)
        if value == NULL or other == NULL or n != m or memcmp(value, other, n) != 0:
            continue
        other = params_get(told, REPORTED[i].name, REPORTED[i].size, &m)
        if other == NULL or (n == m and memcmp(value, other, n) == 0):
            continue
        made = params_put(t, params_share(told), <const uint8_t*>REPORTED[i].name, REPORTED[i].size, value, n)
        if made != NULL:
            params_difference(told, made, out)
            params_drop(t, told)
            told = made
    return told


# ---------------------------------------------------------------- SQL

cdef inline bint _text(IoBuf *out, const char *text, Py_ssize_t n) noexcept nogil:
    return iobuf_put(out, <const uint8_t*>text, n) == 0


cdef bint _identifier(IoBuf *out, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """Each part quoted: "a"."b". Names in a set contain neither quotes nor NULs (see _effects)."""
    cdef Py_ssize_t i, begin = 0
    for i in range(n + 1):
        if i == n or name[i] == 0x2E:
            if begin and not _text(out, b".", 1):
                return False
            if not (_text(out, b'"', 1) and iobuf_put(out, name + begin, i - begin) == 0 and _text(out, b'"', 1)):
                return False
            begin = i + 1
    return True


cdef bint _literal(IoBuf *out, const uint8_t *value, Py_ssize_t n) noexcept nogil:
    """A string that reads the same whatever standard_conforming_strings is."""
    cdef Py_ssize_t i, begin = 0
    if n and memchr(value, 0x5C, n) != NULL and not _text(out, b" E", 2):
        return False
    if not _text(out, b"'", 1):
        return False
    for i in range(n):
        if value[i] == 0x27 or value[i] == 0x5C:
            # itself twice: once with what is before it, once at the head of what follows
            if iobuf_put(out, value + begin, i + 1 - begin) < 0:
                return False
            begin = i
    return iobuf_put(out, value + begin, n - begin) == 0 and _text(out, b"'", 1)


cdef bint _is_list(const Item *one) noexcept nogil:
    return (
        (one.name_size == 11 and memcmp(one.name, b"search_path", 11) == 0)
        or (one.name_size == 16 and memcmp(one.name, b"temp_tablespaces", 16) == 0)
        or (one.name_size == 23 and memcmp(one.name, b"local_preload_libraries", 23) == 0)
        or (one.name_size == 25 and memcmp(one.name, b"session_preload_libraries", 25) == 0)
    )


cdef bint _set(IoBuf *out, const Item *one) noexcept nogil:
    cdef const uint8_t *at = one.value
    cdef const uint8_t *end = one.value + one.value_size
    cdef const uint8_t *mark
    if _is_list(one) and not (one.value_size and one.value[0] == LIST_MARK):
        # text in the server's own quoting: SET would quote it once more
        return (
            _text(out, b"SELECT pg_catalog.set_config(", 29) and _literal(out, one.name, one.name_size)
            and _text(out, b",", 1) and _literal(out, one.value, one.value_size) and _text(out, b",false);", 8)
        )
    if not (_text(out, b"SET ", 4) and _identifier(out, one.name, one.name_size) and _text(out, b" TO ", 4)):
        return False
    if at < end and at[0] == LIST_MARK:
        while at < end:
            at += 1
            mark = <const uint8_t*>memchr(at, LIST_MARK, end - at) if at < end else NULL
            if mark == NULL:
                mark = end
            if not _literal(out, at, mark - at) or (mark < end and not _text(out, b",", 1)):
                return False
            at = mark
    elif not _literal(out, at, end - at):
        return False
    return _text(out, b";", 1)


cdef bint _reset(IoBuf *out, const Item *one) noexcept nogil:
    return _text(out, b"RESET ", 6) and _identifier(out, one.name, one.name_size) and _text(out, b";", 1)


cdef inline bint _named(const Item *one, const char *name, Py_ssize_t n) noexcept nogil:
    return one.name_size == n and memcmp(one.name, name, n) == 0


cdef bint _is_identity(const Item *one) noexcept nogil:
    return _named(one, b"role", 4) or _named(one, b"session_authorization", 21)


cdef bint _has(const ParamSet *s, const char *name, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t size
    return params_get(s, name, n, &size) != NULL


cdef bint _ascii(const ParamSet *s) noexcept nogil:
    cdef Item one
    cdef Py_ssize_t i, at = 0
    while params_next(s, &at, &one):
        for i in range(one.value_size):
            if one.value[i] >= 0x80:
                return False
    return True


cdef bint settings_readable(const ParamSet *s) noexcept nogil:
    """False if a value would mean something else in another client_encoding."""
    return _ascii(s)


cdef bint says_temporary(const uint8_t *text, Py_ssize_t n) noexcept nogil:
    """Does `text` hold the name of the temporary schema, in whatever case? A table that is created while search_path begins with it
    is temporary, though its own text does not say so."""
    cdef Py_ssize_t i, k
    for i in range(n - 6):
        if (text[i] | 0x20) == 0x70:
            for k in range(1, 7):
                if (text[i + k] | 0x20 if k != 2 else text[i + k]) != <uint8_t>(b"pg_temp"[k]):
                    break
            else:
                return True
    return False


cdef bint settings_temporary(const ParamSet *s) noexcept nogil:
    """Is the temporary schema in the search_path?"""
    cdef Py_ssize_t n
    cdef const uint8_t *value = params_get(s, b"search_path", 11, &n)
    return value != NULL and says_temporary(value, n)


cdef Py_ssize_t _open(IoBuf *out) noexcept nogil:
    """The head of a Query; where its length word is, or -1."""
    cdef uint8_t head[5]
    head[0] = p.QUERY
    if iobuf_put(out, &head[0], 5) < 0:
        return -1
    return <Py_ssize_t>out.end - 4


cdef int _close(IoBuf *out, Py_ssize_t at) noexcept nogil:
    if not _text(out, b"", 1):
        return -1
    store_u32(out.data + at, <uint32_t>(out.end - at))
    return 0


cdef int settings_replay(const ParamSet *was, const ParamSet *want, bint in_transaction, IoBuf *out) noexcept nogil:
    """Appends the Query messages that lead from `was` to `want`; how many, or -1 without memory."""
    cdef Item a, b
    cdef Py_ssize_t at_a = 0, at_b = 0, size_a = 0, size_b = 0, head
    cdef const uint8_t *encoding_a = params_get(was, b"client_encoding", 15, &size_a)
    cdef const uint8_t *encoding_b = params_get(want, b"client_encoding", 15, &size_b)
    cdef bint encoding_differs, more_a, more_b
    cdef int order, messages = 1
    encoding_differs = (encoding_a == NULL) != (encoding_b == NULL) or size_a != size_b or (
        size_a != 0 and memcmp(encoding_a, encoding_b, size_a) != 0
    )
    head = _open(out)
    if head < 0 or (not in_transaction and not _text(out, b"BEGIN;", 6)):
        return -1
    if _has(was, b"session_authorization", 21) and not _text(out, b"RESET SESSION AUTHORIZATION;", 28):
        return -1
    if _has(was, b"role", 4) and not _text(out, b"RESET ROLE;", 11):
        return -1
    if encoding_differs:
        # the text of a whole message is read in one encoding
        b.name = <const uint8_t*>b"client_encoding"
        b.name_size = 15
        b.value = encoding_b
        b.value_size = size_b
        if not (_reset(out, &b) if encoding_b == NULL else _set(out, &b)):
            return -1
        if not _ascii(want):
            if _close(out, head) < 0:
                return -1
            messages = 2
            head = _open(out)
            if head < 0:
                return -1
    more_a = params_next(was, &at_a, &a)
    more_b = params_next(want, &at_b, &b)
    while more_a or more_b:
        order = 1 if not more_a else (-1 if not more_b else params_order(&a, &b))
        if order < 0:
            if not _is_identity(&a) and not _named(&a, b"client_encoding", 15) and not _reset(out, &a):
                return -1
        elif not _is_identity(&b) and not _named(&b, b"client_encoding", 15) and (
            order > 0 or a.size != b.size or memcmp(a.at, b.at, a.size) != 0
        ):
            if not _set(out, &b):
                return -1
        if order <= 0:
            more_a = params_next(was, &at_a, &a)
        if order >= 0:
            more_b = params_next(want, &at_b, &b)
    # the user first: setting it takes the role back
    for order in range(2):
        at_b = 0
        while params_next(want, &at_b, &b):
            if _named(&b, b"role" if order else b"session_authorization", 4 if order else 21) and not _set(out, &b):
                return -1
    if not in_transaction and not _text(out, b"COMMIT", 6):
        return -1
    return messages if _close(out, head) == 0 else -1


cdef int settings_ask(const ParamSet *names, IoBuf *out) noexcept nogil:
    """Appends a Query for the present values of `names`, one column each, in their order. 0, or -1."""
    cdef Item one
    cdef Py_ssize_t at = 0, head = _open(out)
    cdef bint first = True
    if head < 0 or not _text(out, b"SELECT ", 7):
        return -1
    while params_next(names, &at, &one):
        if not first and not _text(out, b",", 1):
            return -1
        first = False
        if not (
            _text(out, b"pg_catalog.current_setting(", 27) and _literal(out, one.name, one.name_size)
            and _text(out, b",true)", 6)
        ):
            return -1
    return _close(out, head)


# ---------------------------------------------------------------- what a statement's meaning depends on

cdef struct Word:
    const char *text
    Py_ssize_t size

cdef enum:
    INDIFFERENT = 12
    PREFIXES = 4

cdef Word[INDIFFERENT] NAMES
NAMES[0] = Word(b"application_name", 16)
NAMES[1] = Word(b"statement_timeout", 17)
NAMES[2] = Word(b"lock_timeout", 12)
NAMES[3] = Word(b"transaction_timeout", 19)
NAMES[4] = Word(b"idle_in_transaction_session_timeout", 35)
NAMES[5] = Word(b"idle_session_timeout", 20)
NAMES[6] = Word(b"client_min_messages", 19)
NAMES[7] = Word(b"work_mem", 8)
NAMES[8] = Word(b"maintenance_work_mem", 20)
NAMES[9] = Word(b"synchronous_commit", 18)
NAMES[10] = Word(b"default_transaction_isolation", 29)
NAMES[11] = Word(b"default_transaction_read_only", 29)
cdef Word[PREFIXES] STARTS
STARTS[0] = Word(b"log_", 4)
STARTS[1] = Word(b"debug_", 6)
STARTS[2] = Word(b"track_", 6)
STARTS[3] = Word(b"tcp_", 4)


cdef bint _indifferent(const Item *one) noexcept nogil:
    cdef int i
    for i in range(INDIFFERENT):
        if _named(one, NAMES[i].text, NAMES[i].size):
            return True
    for i in range(PREFIXES):
        if one.name_size > STARTS[i].size and memcmp(one.name, STARTS[i].text, STARTS[i].size) == 0:
            return True
    return False


cdef ParamSet *settings_meaning(ParamTable *t, ParamSet *s) noexcept nogil:
    """The part of `s` that the analysis or plan of a statement may depend on (search_path, role, time zone …): all but those
    that certainly matter to neither. One reference is the caller's; NULL is the empty set."""
    cdef Item one
    cdef Py_ssize_t at = 0
    cdef ParamSet *left = params_share(s)
    while params_next(s, &at, &one):
        if _indifferent(&one):
            left = params_without(t, left, one.name, one.name_size)
    return left


cdef class SettingsDoor:
    """The functions above for tests: sets are dicts."""
    cdef ParamTable t

    def __cinit__(self):
        params_init(&self.t)

    cdef ParamSet *_made(self, dict items) except? NULL:
        cdef ParamSet *made = NULL
        cdef ParamSet *more
        for name, value in items.items():
            more = params_put(
                &self.t, made, <const uint8_t*>(<bytes>name), len(name), <const uint8_t*>(<bytes>value), len(value),
            )
            if more == NULL:
                params_drop(&self.t, made)
                raise ValueError(f"{name!r}: {value!r}")
            made = more
        return made

    cdef dict _read(self, ParamSet *s):
        """`s` is given up."""
        cdef Item one
        cdef Py_ssize_t at = 0
        found = {}
        while params_next(s, &at, &one):
            found[one.name[:one.name_size]] = one.value[:one.value_size]
        params_drop(&self.t, s)
        return found

    @staticmethod
    def replay(dict was not None, dict want not None, bint in_transaction=False):
        """-> (how many messages, all of them)"""
        cdef SettingsDoor door = SettingsDoor()
        cdef ParamSet *a = door._made(was)
        cdef ParamSet *b = door._made(want)
        cdef IoBuf out
        out.data = NULL
        out.pos = out.end = out.cap = 0
        n = settings_replay(a, b, in_transaction, &out)
        made = (<const uint8_t*>out.data)[:out.end]
        iobuf_free(&out)
        params_drop(&door.t, a)
        params_drop(&door.t, b)
        return n, made

    @staticmethod
    def ask(list names not None):
        cdef SettingsDoor door = SettingsDoor()
        cdef ParamSet *a = door._made(dict.fromkeys(names, b""))
        cdef IoBuf out
        out.data = NULL
        out.pos = out.end = out.cap = 0
        settings_ask(a, &out)
        made = (<const uint8_t*>out.data)[:out.end]
        iobuf_free(&out)
        params_drop(&door.t, a)
        return made

    @staticmethod
    def meaning(dict s not None):
        cdef SettingsDoor door = SettingsDoor()
        cdef ParamSet *a = door._made(s)
        cdef ParamSet *left = settings_meaning(&door.t, a)
        params_drop(&door.t, a)
        return door._read(left)

    @staticmethod
    def reported(dict s not None, dict base not None, dict born not None, dict now not None, bint everything=False):
        cdef SettingsDoor door = SettingsDoor()
        cdef ParamSet *b = door._made(base)
        cdef ParamSet *c = door._made(born)
        cdef ParamSet *d = door._made(now)
        cdef ParamSet *made = settings_reported(&door.t, door._made(s), b, c, d, everything)
        params_drop(&door.t, b)
        params_drop(&door.t, c)
        params_drop(&door.t, d)
        return door._read(made)
