"""What a text does to the session it runs in, statement by statement: the reader of SET, RESET, DISCARD, DEALLOCATE, set_config().

Called only for the few texts of which `_lex` says LEX_EFFECTS, once for each text: the result is kept with the interned
statement. The lexer itself finds where each statement ends; within one, only the plain forms are read. Whatever is not
plain (an expression, a string with escapes, a call among other things) is said to be so: EFFECT_ASK where the name of the
setting is certain, else EFFECT_UNKNOWN. Nothing is guessed, and nothing here is executed: whether a statement happened is
told by the server's CommandComplete.

A value is what the server makes of the text (flatten_set_variable_args in guc_funcs.c): words in lower case, numbers and
strings as they are. The elements of a list-valued setting (search_path, temp_tablespaces) stay apart, each behind
LIST_MARK: how they are quoted is the server's business.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy

from proxy._reasons cimport PIN_UNREADABLE
from proxy._wire cimport IoBuf, iobuf_free, iobuf_put, iobuf_reserve
from proxy.sql._lex cimport Lex, POSTGRESQL, lex_end, lex_feed, lex_start

cdef enum Kind:
    K_END = 0
    K_WORD                       # not folded yet
    K_NAME                       # "quoted"; quotes taken off, doubled ones are not
    K_STRING                     # as it stands between its quotes; doubled ones are not undone
    K_NUMBER
    K_OTHER                      # one byte; or a number or string whose value is not simply its text: by its first byte
    K_OPAQUE                     # the rest of the statement, where it is not certain how it reads

cdef struct Token:
    int kind
    const uint8_t *at
    Py_ssize_t size

cdef struct Scan:
    const uint8_t *at
    const uint8_t *end
    bint std_strings
    Token t                      # the current one
    IoBuf *out
    uint32_t statement
    uint32_t count
    uint32_t has
    bint failed                  # no memory
    bint miscounted              # more statements than the server will see

cdef enum:
    NAME_MAX = 127
    IDENTIFIER_MAX = 63          # NAMEDATALEN - 1
    VALUE_MAX = 60000


# ---------------------------------------------------------------- tokens of one statement

cdef inline uint8_t _low(uint8_t b) noexcept nogil:
    return b | 0x20 if 0x41 <= b <= 0x5A else b


cdef inline bint _letter(uint8_t b) noexcept nogil:
    return 0x61 <= _low(b) <= 0x7A or b == 0x5F or b >= 0x80


cdef inline bint _digit(uint8_t b) noexcept nogil:
    return 0x30 <= b <= 0x39


cdef void _skip_blanks(Scan *s) noexcept nogil:
    cdef int depth
    while s.at < s.end:
        if s.at[0] == 0x20 or 0x09 <= s.at[0] <= 0x0D:
            s.at += 1
        elif s.end - s.at >= 2 and s.at[0] == 0x2D and s.at[1] == 0x2D:              # --
            while s.at < s.end and s.at[0] != 0x0A and s.at[0] != 0x0D:
                s.at += 1
        elif s.end - s.at >= 2 and s.at[0] == 0x2F and s.at[1] == 0x2A:              # /* nested */
            depth = 0
            while s.end - s.at >= 2:
                if s.at[0] == 0x2F and s.at[1] == 0x2A:
                    depth += 1
                    s.at += 2
                elif s.at[0] == 0x2A and s.at[1] == 0x2F:
                    depth -= 1
                    s.at += 2
                    if depth == 0:
                        break
                else:
                    s.at += 1
            else:
                s.at = s.end
        else:
            return


cdef void _quoted(Scan *s, int kind, uint8_t quote, bint plain) noexcept nogil:
    """From behind the opening quote to behind the closing one. `plain`: a backslash is a backslash."""
    cdef const uint8_t *stop
    s.t.kind = kind
    s.t.at = s.at
    while True:
        stop = <const uint8_t*>memchr(s.at, quote, s.end - s.at) if s.at < s.end else NULL
        if stop == NULL:
            s.t.kind = K_OPAQUE
            s.at = s.end
            return
        s.at = stop + 1
        if s.at < s.end and s.at[0] == quote:
            s.at += 1
            continue
        break
    s.t.size = stop - s.t.at
    if not plain and s.t.size and memchr(s.t.at, 0x5C, s.t.size) != NULL:
        # where it ends is not certain then, either: the rest of the statement is not read
        s.t.kind = K_OPAQUE
        s.at = s.end


cdef void _dollar(Scan *s) noexcept nogil:
    """At a $: a parameter, a string, or a byte."""
    cdef const uint8_t *at = s.at + 1
    cdef Py_ssize_t n
    s.t.kind = K_OTHER
    s.t.size = 1
    while at < s.end and (_letter(at[0]) or _digit(at[0])) and not (at == s.at + 1 and _digit(at[0])):
        at += 1
    if at == s.end or at[0] != 0x24:
        s.at += 1
        while s.at < s.end and _digit(s.at[0]):
            s.at += 1
        return
    n = at + 1 - s.at            # of the tag, with both its $
    at += 1
    while s.end - at >= n:
        at = <const uint8_t*>memchr(at, 0x24, s.end - at)
        if at == NULL or s.end - at < n:
            break
        if memcmp(at, s.t.at, n) == 0:
            s.at = at + n
            return
        at += 1
    s.t.kind = K_OPAQUE
    s.at = s.end


cdef bint _continues(const Scan *s) noexcept nogil:
    """Behind a string with escapes: does another follow, which may be a part of it and is read by the same rules?"""
    cdef Scan behind = s[0]
    _skip_blanks(&behind)
    return behind.at < behind.end and behind.at[0] == 0x27


cdef void _next(Scan *s) noexcept nogil:
    cdef uint8_t b
    _skip_blanks(s)
    s.t.at = s.at
    s.t.size = 0
    if s.at >= s.end:
        s.t.kind = K_END
        return
    b = s.at[0]
    if b == 0x27:                # '
        s.at += 1
        _quoted(s, K_STRING, 0x27, s.std_strings)
    elif b == 0x22:              # "
        s.at += 1
        _quoted(s, K_NAME, 0x22, True)
    elif _letter(b):
        if s.end - s.at >= 2 and (s.at[1] == 0x27 or s.at[1] == 0x26) and (
            _low(b) == 0x65 or _low(b) == 0x62 or _low(b) == 0x78 or _low(b) == 0x6E or _low(b) == 0x75
        ):
            if _low(b) == 0x65 and s.at[1] == 0x27:          # e'…'
                s.at += 2
                _quoted(s, K_STRING, 0x27, False)
                if _continues(s):
                    s.t.kind = K_OPAQUE
                    s.at = s.end
            else:                                            # b'' x'' n'' u&
                s.t.kind = K_OPAQUE
                s.at = s.end
            return
        while s.at < s.end and (_letter(s.at[0]) or _digit(s.at[0]) or s.at[0] == 0x24):
            s.at += 1
        s.t.kind = K_WORD
        s.t.size = s.at - s.t.at
    elif _digit(b) or (b == 0x2E and s.end - s.at >= 2 and _digit(s.at[1])):
        while s.at < s.end and (_digit(s.at[0]) or s.at[0] == 0x2E):
            s.at += 1
        s.t.kind = K_NUMBER
        s.t.size = s.at - s.t.at
        if s.at < s.end and _letter(s.at[0]) or s.t.size > 1 and b == 0x30 and s.t.at[1] != 0x2E:
            s.t.kind = K_OTHER   # 1e3, 0x1f, 1_000, 007
            while s.at < s.end and (_letter(s.at[0]) or _digit(s.at[0])):
                s.at += 1
    elif b == 0x24:
        _dollar(s)
    else:
        s.at += 1
        s.t.kind = K_OTHER
        s.t.size = 1


cdef bint _is(const Scan *s, const char *word, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if s.t.kind != K_WORD or s.t.size != n:
        return False
    for i in range(n):
        if _low(s.t.at[i]) != <uint8_t>word[i]:
            return False
    return True


cdef inline bint _punct(const Scan *s, uint8_t b) noexcept nogil:
    return s.t.kind == K_OTHER and s.t.at[0] == b


cdef bint _take(Scan *s, const char *word, Py_ssize_t n) noexcept nogil:
    if not _is(s, word, n):
        return False
    _next(s)
    return True


# ---------------------------------------------------------------- what is found

cdef bint _put_token(IoBuf *b, const Token *t) noexcept nogil:
    """The token's value: words folded, doubled quotes undone."""
    cdef Py_ssize_t i = 0
    cdef uint8_t c
    cdef uint8_t quote = 0x22 if t.kind == K_NAME else (0x27 if t.kind == K_STRING else 0)
    if iobuf_reserve(b, t.size) < 0:
        return False
    while i < t.size:
        c = t.at[i]
        if c == quote:
            i += 1               # the first of two
        b.data[b.end] = _low(c) if t.kind == K_WORD else c
        b.end += 1
        i += 1
    return True


cdef void _emit(Scan *s, uint8_t kind, const uint8_t *name, Py_ssize_t n, const uint8_t *value, Py_ssize_t m) noexcept nogil:
    """Entry: kind, statement, sizes of name and value, both."""
    cdef uint8_t head[13]
    cdef uint32_t name_size = <uint32_t>n, value_size = <uint32_t>m
    if n > NAME_MAX or m > VALUE_MAX:
        kind = EFFECT_UNKNOWN
        name_size = value_size = 0
    if kind == EFFECT_RESET and _same(name, name_size, b"session_authorization", 21):
        _emit(s, EFFECT_RESET, b"role", 4, NULL, 0)                  # the role goes with it, to what the session began with
    head[0] = kind
    memcpy(&head[1], &s.statement, 4)
    memcpy(&head[5], &name_size, 4)
    memcpy(&head[9], &value_size, 4)
    if (
        iobuf_put(s.out, &head[0], 13) < 0 or iobuf_put(s.out, name, name_size) < 0
        or iobuf_put(s.out, value, value_size) < 0
    ):
        s.failed = True
        return
    s.count += 1
    s.has |= <uint32_t>1 << kind
    if _same(name, name_size, b"session_authorization", 21):
        if kind == EFFECT_ASK:
            _emit(s, EFFECT_ASK, b"role", 4, NULL, 0)
        elif kind == EFFECT_SET:
            _emit(s, EFFECT_SET, b"role", 4, b"none", 4)


cdef inline void _plain(Scan *s, uint8_t kind) noexcept nogil:
    _emit(s, kind, NULL, 0, NULL, 0)


cdef bint _same(const uint8_t *name, Py_ssize_t n, const char *word, Py_ssize_t m) noexcept nogil:
    return n == m and memcmp(name, word, m) == 0


cdef bint _is_list(const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """GUC_LIST_QUOTE, of those a session may set."""
    return (
        _same(name, n, b"search_path", 11) or _same(name, n, b"temp_tablespaces", 16)
        or _same(name, n, b"local_preload_libraries", 23) or _same(name, n, b"session_preload_libraries", 25)
    )


cdef bint _is_state(const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """Not a value that another connection could be given: the state of a generator; refused where temporary tables have been."""
    return _same(name, n, b"seed", 4) or _same(name, n, b"temp_buffers", 12)


cdef bint _of_transaction(const uint8_t *name, Py_ssize_t n) noexcept nogil:
    return (
        _same(name, n, b"transaction_isolation", 21) or _same(name, n, b"transaction_read_only", 21)
        or _same(name, n, b"transaction_deferrable", 22)
    )


cdef bint _name(Scan *s, IoBuf *name) noexcept nogil:
    """name [. name]…, folded: names of settings are the same in any case. False where it is none that can be written again."""
    cdef Py_ssize_t i
    cdef uint8_t b
    name.pos = name.end = 0
    while True:
        if s.t.kind != K_WORD and s.t.kind != K_NAME or not 0 < s.t.size <= IDENTIFIER_MAX:
            return False
        for i in range(s.t.size):
            b = _low(s.t.at[i])
            if b == 0x22 or b == 0x2E or b < 0x20 or b >= 0x80:
                return False
        if name.end and iobuf_put(name, b".", 1) < 0 or not _put_token(name, &s.t):
            return False
        _next(s)
        if not _punct(s, 0x2E):
            break
        _next(s)
    for i in range(<Py_ssize_t>name.end):
        name.data[i] = _low(name.data[i])
    return name.end <= NAME_MAX


cdef bint _value(Scan *s, IoBuf *value) noexcept nogil:
    """One value: a word, a name, a string, a number with its sign. Appended."""
    if _punct(s, 0x2D) or _punct(s, 0x2B):
        if _punct(s, 0x2D) and iobuf_put(value, b"-", 1) < 0:
            return False
        _next(s)
        if s.t.kind != K_NUMBER or (s.t.size == 1 and s.t.at[0] == 0x30):        # -0 is 0
            return False
    if (s.t.kind == K_WORD or s.t.kind == K_NAME) and s.t.size > IDENTIFIER_MAX:
        return False             # the server cuts it
    if s.t.kind != K_WORD and s.t.kind != K_NAME and s.t.kind != K_STRING and s.t.kind != K_NUMBER:
        return False
    if s.t.size and memchr(s.t.at, LIST_MARK, s.t.size) != NULL or not _put_token(value, &s.t):
        return False
    _next(s)
    return True


cdef void _assign(Scan *s, const uint8_t *name, Py_ssize_t n, IoBuf *value) noexcept nogil:
    """value [, value]… | DEFAULT, to the end of the statement."""
    cdef bint several = _is_list(name, n)
    cdef bint first = True
    value.pos = value.end = 0
    if _is_state(name, n):
        _emit(s, EFFECT_UNKNOWN, name, n, NULL, 0)
        return
    if _is(s, b"default", 7):
        _next(s)
        _emit(s, EFFECT_RESET if s.t.kind == K_END else EFFECT_ASK, name, n, NULL, 0)
        return
    while True:
        if several:
            if iobuf_put(value, b"\x01", 1) < 0:
                break
        elif not first and iobuf_put(value, b", ", 2) < 0:
            break
        first = False
        if several and (s.t.kind == K_NUMBER or s.t.kind == K_OTHER) or not _value(s, value):
            break                # a number in a list is not quoted by the server
        if s.t.kind == K_END:
            _emit(s, EFFECT_SET, name, n, value.data, value.end)
            return
        if not _punct(s, 0x2C):
            break
        _next(s)
    _emit(s, EFFECT_ASK, name, n, NULL, 0)


# ---------------------------------------------------------------- statements

cdef void _characteristics(Scan *s) noexcept nogil:
    """SET SESSION CHARACTERISTICS AS TRANSACTION mode [[,] mode]…"""
    if not (_take(s, b"as", 2) and _take(s, b"transaction", 11)):
        _plain(s, EFFECT_UNKNOWN)
        return
    while s.t.kind != K_END:
        if _take(s, b"isolation", 9):
            if not _take(s, b"level", 5):
                break
            if _take(s, b"serializable", 12):
                _emit(s, EFFECT_SET, b"default_transaction_isolation", 29, b"serializable", 12)
            elif _take(s, b"repeatable", 10):
                if not _take(s, b"read", 4):
                    break
                _emit(s, EFFECT_SET, b"default_transaction_isolation", 29, b"repeatable read", 15)
            elif _take(s, b"read", 4):
                if _take(s, b"committed", 9):
                    _emit(s, EFFECT_SET, b"default_transaction_isolation", 29, b"read committed", 14)
                elif _take(s, b"uncommitted", 11):
                    _emit(s, EFFECT_SET, b"default_transaction_isolation", 29, b"read uncommitted", 16)
                else:
                    break
            else:
                break
        elif _take(s, b"read", 4):
            if _take(s, b"only", 4):
                _emit(s, EFFECT_SET, b"default_transaction_read_only", 29, b"on", 2)
            elif _take(s, b"write", 5):
                _emit(s, EFFECT_SET, b"default_transaction_read_only", 29, b"off", 3)
            else:
                break
        elif _take(s, b"deferrable", 10):
            _emit(s, EFFECT_SET, b"default_transaction_deferrable", 30, b"on", 2)
        elif _take(s, b"not", 3):
            if not _take(s, b"deferrable", 10):
                break
            _emit(s, EFFECT_SET, b"default_transaction_deferrable", 30, b"off", 3)
        elif _punct(s, 0x2C):
            _next(s)
        else:
            break
    else:
        return
    _plain(s, EFFECT_UNKNOWN)


cdef void _authorization(Scan *s, IoBuf *value) noexcept nogil:
    """SET SESSION AUTHORIZATION user | DEFAULT."""
    value.pos = value.end = 0
    if _is(s, b"default", 7):
        _emit(s, EFFECT_RESET, b"session_authorization", 21, NULL, 0)
    elif _value(s, value) and s.t.kind == K_END:
        _emit(s, EFFECT_SET, b"session_authorization", 21, value.data, value.end)
    else:
        _emit(s, EFFECT_ASK, b"session_authorization", 21, NULL, 0)


cdef bint _follows_name(const Scan *s) noexcept nogil:
    """What was read is a setting's name, not a word of the grammar."""
    return _punct(s, 0x2E) or _punct(s, 0x3D) or _is(s, b"to", 2)


cdef void _set(Scan *s, IoBuf *name, IoBuf *value) noexcept nogil:
    """Behind SET."""
    cdef Scan back
    cdef bint session = False
    cdef bint local = False
    back = s[0]
    if _take(s, b"session", 7):
        session = True
    elif _take(s, b"local", 5):
        local = True
    if (session or local) and _follows_name(s):
        s[0] = back              # settings called session.x or local.x
        session = local = False
    if local:
        return                   # ends with its transaction
    if session and _take(s, b"characteristics", 15):
        _characteristics(s)
        return
    if session and _take(s, b"authorization", 13):
        _authorization(s, value)
        return
    back = s[0]
    if _take(s, b"session", 7) and _take(s, b"authorization", 13):
        _authorization(s, value)             # SET SESSION SESSION AUTHORIZATION
        return
    s[0] = back
    if _take(s, b"transaction", 11) or _take(s, b"constraints", 11):
        if not (_punct(s, 0x2E) or _punct(s, 0x3D)):
            return
        s[0] = back
    if _take(s, b"time", 4):
        if _take(s, b"zone", 4):
            if _is(s, b"local", 5) or _is(s, b"default", 7):
                _emit(s, EFFECT_RESET, b"timezone", 8, NULL, 0)
            elif _is(s, b"interval", 8):
                _emit(s, EFFECT_ASK, b"timezone", 8, NULL, 0)
            else:
                _assign(s, b"timezone", 8, value)
            return
        s[0] = back
    if _take(s, b"names", 5):
        if s.t.kind == K_END:
            _emit(s, EFFECT_RESET, b"client_encoding", 15, NULL, 0)
            return
        if not _follows_name(s):
            _assign(s, b"client_encoding", 15, value)
            return
        s[0] = back
    if _take(s, b"role", 4):
        if s.t.kind == K_WORD and not _is(s, b"to", 2) or s.t.kind == K_STRING or s.t.kind == K_NAME:
            _assign(s, b"role", 4, value)
            return
        s[0] = back
    if _take(s, b"schema", 6):
        if not _follows_name(s):
            _assign(s, b"search_path", 11, value)
            return
        s[0] = back
    if _take(s, b"xml", 3):
        if _take(s, b"option", 6):
            _assign(s, b"xmloption", 9, value)
            return
        s[0] = back
    if not _name(s, name):
        _plain(s, EFFECT_UNKNOWN)
    elif _of_transaction(name.data, name.end):
        return
    elif _punct(s, 0x3D) or _is(s, b"to", 2):
        _next(s)
        _assign(s, name.data, name.end, value)
    else:
        _emit(s, EFFECT_ASK, name.data, name.end, NULL, 0)


cdef void _reset(Scan *s, IoBuf *name) noexcept nogil:
    cdef Scan back = s[0]
    if _take(s, b"all", 3):
        _plain(s, EFFECT_RESET_ALL)
    elif _take(s, b"session", 7) and _take(s, b"authorization", 13):
        _emit(s, EFFECT_RESET, b"session_authorization", 21, NULL, 0)
    else:
        s[0] = back
        if _take(s, b"time", 4) and _take(s, b"zone", 4):
            _emit(s, EFFECT_RESET, b"timezone", 8, NULL, 0)
            return
        s[0] = back
        if _take(s, b"transaction", 11) and _take(s, b"isolation", 9):
            return
        s[0] = back
        if not _name(s, name):
            _plain(s, EFFECT_UNKNOWN)
        elif not _of_transaction(name.data, name.end):
            _emit(s, EFFECT_RESET, name.data, name.end, NULL, 0)


cdef bint _set_config(Scan *s, IoBuf *name, IoBuf *value, bint *plain) noexcept nogil:
    """At the word set_config: reads the call if all it has is literals. `plain` stays so only if its effect is certain."""
    cdef bint named = False
    cdef bint valued = False
    cdef Token flag
    cdef Py_ssize_t i
    name.pos = name.end = value.pos = value.end = 0
    _next(s)
    if not _punct(s, 0x28):
        return False             # a column of that name
    _next(s)
    if s.t.kind == K_STRING:
        # a text of any shape; a setting's name in it is folded by the server
        named = _put_token(name, &s.t) and 0 < name.end <= NAME_MAX
        _next(s)
    if not named or not _punct(s, 0x2C):
        plain[0] = False
        _plain(s, EFFECT_UNKNOWN)
        return True
    for i in range(<Py_ssize_t>name.end):
        name.data[i] = _low(name.data[i])
        if name.data[i] <= 0x20 or name.data[i] == 0x22 or name.data[i] >= 0x7F:
            plain[0] = False
            _plain(s, EFFECT_UNKNOWN)
            return True
    _next(s)
    if s.t.kind == K_STRING:
        valued = (s.t.size == 0 or memchr(s.t.at, LIST_MARK, s.t.size) == NULL) and _put_token(value, &s.t)
        _next(s)
    flag.kind = K_END
    if valued and _punct(s, 0x2C):
        _next(s)
        flag = s.t
        if _is(s, b"true", 4) or _is(s, b"false", 5):
            _next(s)
        else:
            flag.kind = K_END
    if flag.kind == K_END or not _punct(s, 0x29):
        plain[0] = False
        _emit(s, EFFECT_ASK, name.data, name.end, NULL, 0)
        return True
    _next(s)
    if _low(flag.at[0]) == 0x74 or _of_transaction(name.data, name.end):             # true: local
        return True
    if _is_state(name.data, name.end):
        _emit(s, EFFECT_UNKNOWN, name.data, name.end, NULL, 0)
    elif _same(name.data, name.end, b"session_authorization", 21):
        _emit(s, EFFECT_ASK, name.data, name.end, NULL, 0)
    else:
        _emit(s, EFFECT_SET, name.data, name.end, value.data, value.end)
    return True


cdef void _calls(Scan *s, IoBuf *name, IoBuf *value) noexcept nogil:
    """SELECT set_config(…) [AS x] [, set_config(…)]…: certain. A call among anything else: ask for its setting afterwards."""
    cdef uint32_t begin = s.out.end
    cdef bint plain = _take(s, b"select", 6)
    cdef uint32_t at
    cdef uint32_t sizes[2]
    cdef bint creates = _is(s, b"create", 6)
    while s.t.kind != K_END:
        if creates and _take(s, b"begin", 5):
            if _is(s, b"atomic", 6):
                s.miscounted = True          # the `;` in the body end no statement of the text
        elif _is(s, b"set_config", 10):
            _set_config(s, name, value, &plain)
            if plain and _take(s, b"as", 2):
                _next(s)
            if s.t.kind != K_END and not _punct(s, 0x2C):
                plain = False
        elif _punct(s, 0x2C) and plain:
            _next(s)
        elif plain and _is(s, b"pg_catalog", 10):
            _next(s)
            if not _punct(s, 0x2E):
                plain = False
            _next(s)
            if not _is(s, b"set_config", 10):
                plain = False
        elif s.t.kind == K_OPAQUE:
            plain = False
            _plain(s, EFFECT_UNKNOWN)        # the rest is not readable
            return
        elif s.t.kind == K_NAME and _same(s.t.at, s.t.size, b"set_config", 10):
            plain = False
            _plain(s, EFFECT_UNKNOWN)
            _next(s)
        else:
            plain = False
            _next(s)
    if plain:
        return
    # whether, how often and with which rows it was called is for the server to say
    at = begin
    while at < s.out.end and not s.failed:
        if s.out.data[at] == EFFECT_SET:
            s.out.data[at] = EFFECT_ASK
            s.has |= <uint32_t>1 << <int>EFFECT_ASK
        memcpy(&sizes[0], &s.out.data[at + 5], 8)
        at += 13 + sizes[0] + sizes[1]


cdef void _statement(Scan *s, IoBuf *name, IoBuf *value) noexcept nogil:
    cdef Scan back
    _next(s)
    while _punct(s, 0x28):
        _next(s)
    if _take(s, b"set", 3):
        _set(s, name, value)
    elif _take(s, b"reset", 5):
        _reset(s, name)
    elif _take(s, b"discard", 7):
        if _is(s, b"all", 3):
            _plain(s, EFFECT_DISCARD_ALL)
        elif _is(s, b"sequences", 9):
            _plain(s, EFFECT_DISCARD_SEQUENCES)
    elif _take(s, b"deallocate", 10):
        back = s[0]
        if _take(s, b"prepare", 7) and s.t.kind == K_END:
            s[0] = back          # a statement of that name
        if _is(s, b"all", 3):
            _plain(s, EFFECT_DEALLOCATE_ALL)
        elif s.t.kind == K_WORD or s.t.kind == K_NAME:
            value.pos = value.end = 0
            if _put_token(value, &s.t):
                _emit(s, EFFECT_DEALLOCATE, value.data, value.end, NULL, 0)
    elif _take(s, b"rollback", 8) or _take(s, b"abort", 5):
        if _is(s, b"work", 4) or _is(s, b"transaction", 11):
            _next(s)
        if _is(s, b"to", 2):
            _plain(s, EFFECT_ROLLBACK_TO)
    else:
        _calls(s, name, value)


cdef Effects *effects_read(const uint8_t *text, Py_ssize_t n, bint std_strings) noexcept nogil:
    """The effects of a whole text, for the caller to free(); NULL without memory."""
    cdef Scan s
    cdef Lex lx
    cdef IoBuf out, name, value
    cdef Effects *made = NULL
    cdef Py_ssize_t i, start = 0
    cdef uint32_t ended = 0, before = 0
    out.data = name.data = value.data = NULL
    out.pos = out.end = out.cap = name.pos = name.end = name.cap = value.pos = value.end = value.cap = 0
    s.std_strings = std_strings
    s.out = &out
    s.count = 0
    s.has = 0
    s.failed = False
    s.miscounted = False
    lex_start(&lx, POSTGRESQL, std_strings, True)
    i = 0
    while i <= n and not s.failed:
        if i < n:
            lex_feed(&lx, text + i, 1)
        else:
            lex_end(&lx)
        i += 1
        if lx.rules.ended != ended:
            ended = lx.rules.ended
            if lx.rules.statements != before:
                s.statement = before
                before = lx.rules.statements
                s.at = text + start
                s.end = text + (i - 1 if i <= n else n)
                _statement(&s, &name, &value)
            start = i
    if s.miscounted and s.count:
        # behind the body of a function nothing can be told apart by its number
        out.end = 0
        s.count = s.has = s.statement = 0
        _plain(&s, EFFECT_UNKNOWN)
    if not s.failed:
        made = <Effects*>malloc(sizeof(Effects) + out.end)
    if made != NULL:
        made.size = out.end
        made.count = s.count
        made.has = <uint16_t>s.has
        if out.end:
            memcpy(&made.data[0], out.data, out.end)
    iobuf_free(&out)
    iobuf_free(&name)
    iobuf_free(&value)
    return made


cdef bint effects_next(const Effects *e, uint32_t *at, Effect *one) noexcept nogil:
    """The entry at `at`, which moves on; False at the end."""
    cdef uint32_t name_size, value_size
    if at[0] >= e.size:
        return False
    one.kind = e.data[at[0]]
    memcpy(&one.statement, &e.data[at[0] + 1], 4)
    memcpy(&name_size, &e.data[at[0] + 5], 4)
    memcpy(&value_size, &e.data[at[0] + 9], 4)
    one.name = &e.data[at[0] + 13]
    one.name_size = name_size
    one.value = one.name + name_size
    one.value_size = value_size
    at[0] += 13 + name_size + value_size
    return True


def effects(bytes text not None, bint std_strings=True):
    """[(EffectKind, statement, name, value), …] for tests and tools. Elements of a list: LIST_MARK in front of each."""
    cdef Effects *e = effects_read(<const uint8_t*>text, len(text), std_strings)
    cdef Effect one
    cdef uint32_t at = 0
    if e == NULL:
        raise MemoryError
    found = []
    while effects_next(e, &at, &one):
        found.append((EffectKind(one.kind), one.statement, one.name[:one.name_size].decode("latin-1"), one.value[:one.value_size]))
    free(e)
    return found


def statements(bytes text not None, bint std_strings=True):
    """How many statements a text has; -1 if that is not readable."""
    cdef Lex lx
    lex_start(&lx, POSTGRESQL, std_strings, True)
    lex_feed(&lx, <const uint8_t*>text, len(text))
    if lex_end(&lx) >> <int>PIN_UNREADABLE & 1:
        return -1
    return lx.rules.statements
