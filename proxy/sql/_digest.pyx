"""The text of a statement as logs, counters and pin reports print it: `SET x = 'a'; SELECT 1` is `set x = $1; select $2`.

Comments go, blanks become one space, words lower case; each literal and parameter becomes `$n`, numbered through the
text; quoted names stay as they are, except as the value of a SET. So that a query has one digest however many values it
is given, the literals of `in (…)` and `array[…]` are said once, and so are the rows of VALUES; a sign in front of a number
is part of it where a list or its next element begins. No byte of a literal gets into a digest: what cannot be read
(`_tokens`) ends it with `...`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from proxy.sql._chars cimport F_IDENT, FLAGS, fold
from proxy.sql._lex cimport POSTGRESQL
from proxy.sql._tokens cimport (
    K_CLOSE, K_COMMA, K_END, K_LITERAL, K_NAME, K_OPEN, K_OTHER, K_PARAMETER, K_SEMICOLON, K_SIGN, K_UNREADABLE, K_WORD,
    Tokens, next_token, tokens_start,
)

cdef enum Word:
    W_NONE = 0
    W_IN, W_ARRAY, W_VALUES, W_VALUES_ROW, W_SET, W_TO

cdef enum Set:           # SET, as far as it is understood
    SET_FIRST = 0        # in front of a statement's first word
    SET_NONE
    SET_TARGET
    SET_VALUE

cdef struct Out:
    uint8_t *to          # NULL: only the hash is wanted
    Py_ssize_t n
    Py_ssize_t cap
    uint64_t hash
    uint8_t last         # byte
    bint full

cdef struct Printer:
    Out out
    Tokens tokens
    uint64_t number      # of the literal printed last
    Py_ssize_t depth     # of ( and [
    Py_ssize_t list      # depth inside of the list being read whose literals are said once; 0: none
    Py_ssize_t row       # depth inside of the first row of VALUES; 0: not there
    bint literals        # the list's current element has nothing but literals so far
    uint8_t kind         # of the token before
    uint8_t word         # which it was
    uint8_t set


# ---------------------------------------------------------------- output

cdef inline void put(Out *o, uint8_t c) noexcept nogil:
    o.last = c
    if o.to == NULL:
        o.hash = (o.hash ^ c) * <uint64_t>0x100000001B3
        o.n += 1
    elif o.n < o.cap:
        o.to[o.n] = c
        o.n += 1
    else:
        o.full = True


cdef void put_text(Out *o, const uint8_t *p, Py_ssize_t n, bint lower) noexcept nogil:
    """`put` of many: in locals, since a byte that is written could be any of the fields."""
    cdef uint64_t hashed = o.hash
    cdef uint8_t *to = o.to
    cdef Py_ssize_t i
    if n <= 0:
        return
    o.last = p[n - 1]
    if to == NULL:
        for i in range(n):
            hashed = (hashed ^ (fold(p[i]) if lower else p[i])) * <uint64_t>0x100000001B3
        o.hash = hashed
        o.n += n
        return
    if n > o.cap - o.n:
        n = o.cap - o.n
        o.full = True
    to += o.n
    o.n += n
    if lower:
        for i in range(n):
            to[i] = fold(p[i])
    else:
        memcpy(to, p, n)


cdef void put_number(Out *o, uint64_t number) noexcept nogil:
    cdef uint8_t[20] digits
    cdef int i = 0
    put(o, 0x24)
    while number:
        digits[i] = <uint8_t>(0x30 + number % 10)
        number //= 10
        i += 1
    while i:
        i -= 1
        put(o, digits[i])


cdef void put_dots(Out *o) noexcept nogil:
    put(o, 0x2E)
    put(o, 0x2E)
    put(o, 0x2E)


cdef Py_ssize_t finish(Out *o) noexcept nogil:
    """The dots of a text that was cut; its full length otherwise."""
    cdef int steps = 3                       # a UTF-8 character has no more bytes that follow
    if not o.full:
        return o.n
    o.n = max(o.cap - 3, 0)
    while steps and o.n and o.to[o.n] & 0xC0 == 0x80:
        o.n -= 1
        steps -= 1
    o.full = False
    put_dots(o)
    return o.n


# ---------------------------------------------------------------- words

cdef inline bint same(const uint8_t *p, Py_ssize_t n, const char *text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t i
    if n != size:
        return False
    for i in range(n):
        if fold(p[i]) != <uint8_t>text[i]:
            return False
    return True


cdef uint8_t meaning(const Printer *r) noexcept nogil:
    """Of the word that was read."""
    cdef const uint8_t *p = r.tokens.text + r.tokens.start
    cdef Py_ssize_t n = r.tokens.stop - r.tokens.start
    if n == 2:
        return W_IN if same(p, n, b"in", 2) else W_TO if same(p, n, b"to", 2) else W_NONE
    elif n == 3:
        if same(p, n, b"row", 3) and r.word == W_VALUES:
            return W_VALUES_ROW
        return W_SET if same(p, n, b"set", 3) else W_NONE
    elif n == 5:
        return W_ARRAY if same(p, n, b"array", 5) else W_VALUES if same(p, n, b"value", 5) else W_NONE
    elif n == 6:
        return W_VALUES if same(p, n, b"values", 6) else W_NONE
    else:
        return W_NONE


# ---------------------------------------------------------------- lists

cdef inline bint is_value(uint8_t kind) noexcept nogil:
    return kind == K_LITERAL or kind == K_PARAMETER


cdef uint8_t literal_element(Tokens *t) noexcept nogil:
    """Read a list's element: K_COMMA if it had nothing but literals and a comma follows, which is read too; K_CLOSE if it was
    the last of those, and what ends the list is not read; K_OTHER otherwise."""
    cdef Py_ssize_t depth = 0
    cdef bint found = False
    cdef uint8_t kind
    cdef Tokens before
    while True:
        before = t[0]
        kind = next_token(t)
        if depth == 0 and (kind == K_COMMA or kind == K_CLOSE):
            if kind == K_CLOSE:
                t[0] = before
            return kind if found else K_OTHER
        elif is_value(kind):
            found = True
        elif kind == K_OPEN:
            depth += 1
        elif kind == K_CLOSE:
            depth -= 1
        elif kind != K_SIGN and kind != K_COMMA:
            return K_OTHER


cdef bint skip_literals(Printer *r) noexcept nogil:
    """Behind a comma, leave out the elements of nothing but literals. Whether there is another one left to print."""
    cdef Tokens ahead
    cdef uint8_t kind
    while True:
        ahead = r.tokens
        kind = literal_element(&ahead)
        if kind == K_OTHER:
            return True
        r.tokens = ahead
        if kind == K_CLOSE:
            return False


cdef void skip_rows(Printer *r) noexcept nogil:
    """Behind the first row of VALUES, leave out the others."""
    cdef Tokens ahead
    cdef Py_ssize_t depth
    cdef uint8_t kind
    while True:
        ahead = r.tokens
        if next_token(&ahead) != K_COMMA:
            return
        kind = next_token(&ahead)
        if kind == K_WORD and same(ahead.text + ahead.start, ahead.stop - ahead.start, b"row", 3):
            kind = next_token(&ahead)
        if kind != K_OPEN:
            return
        depth = 1
        while depth:
            kind = next_token(&ahead)
            if kind == K_OPEN:
                depth += 1
            elif kind == K_CLOSE:
                depth -= 1
            elif kind == K_END or kind == K_UNREADABLE:
                return
        r.tokens = ahead


# ---------------------------------------------------------------- tokens

cdef void follow_set(Printer *r, uint8_t kind, uint8_t word) noexcept nogil:
    if kind == K_SEMICOLON:
        r.set = SET_FIRST
    elif r.set == SET_FIRST:
        r.set = SET_TARGET if word == W_SET else SET_NONE
    elif r.set == SET_TARGET:
        if word == W_TO or (kind == K_OTHER and r.tokens.text[r.tokens.start] == 0x3D):
            r.set = SET_VALUE
    elif r.set == SET_VALUE:                 # PostgreSQL's value may be a list
        if kind == K_COMMA and r.depth == 0 and r.tokens.dialect != POSTGRESQL:
            r.set = SET_TARGET


cdef void follow_lists(Printer *r, uint8_t kind) noexcept nogil:
    cdef uint8_t c
    if kind == K_OPEN:
        c = r.tokens.text[r.tokens.start]
        r.depth += 1
        if r.word == (W_IN if c == 0x28 else W_ARRAY):
            r.list = r.depth
            r.literals = True
        elif c == 0x28 and (r.word == W_VALUES or r.word == W_VALUES_ROW):
            r.row = r.depth
    elif kind == K_CLOSE:
        if r.list == r.depth:
            r.list = 0
        if r.depth:
            r.depth -= 1
    elif kind == K_COMMA and r.depth == r.list:
        r.literals = True
    elif not is_value(kind) and kind != K_SIGN and kind != K_COMMA:
        r.literals = False


cdef void emit(Printer *r, uint8_t kind, bint value) noexcept nogil:
    if value:
        r.number += 1
        put_number(&r.out, r.number)
    else:
        put_text(&r.out, r.tokens.text + r.tokens.start, r.tokens.stop - r.tokens.start, kind == K_WORD)


cdef bint step(Printer *r) noexcept nogil:
    """Read and print one token. False behind the last."""
    cdef uint8_t kind = next_token(&r.tokens)
    cdef uint8_t word = W_NONE
    cdef bint blank = r.tokens.blank
    cdef bint value
    cdef Tokens ahead
    if kind == K_UNREADABLE:
        put_dots(&r.out)
    if kind == K_UNREADABLE or kind == K_END:
        return False
    if kind == K_SIGN and (r.kind == K_OPEN or r.kind == K_COMMA):
        ahead = r.tokens
        if is_value(next_token(&ahead)):
            kind = K_LITERAL
            r.tokens = ahead
    if kind == K_COMMA and r.list and r.list == r.depth and r.literals and not skip_literals(r):
        return True
    if kind == K_NAME and r.set == SET_VALUE:
        kind = K_LITERAL
    value = is_value(kind)
    if blank and r.out.n:
        put(&r.out, 0x20)
    elif (value and FLAGS[r.out.last] & F_IDENT) or (kind == K_WORD and is_value(r.kind)):
        put(&r.out, 0x20)                    # 1and, a'b': what is read as two stays two
    if kind == K_WORD:
        word = meaning(r)
    follow_set(r, kind, word)
    follow_lists(r, kind)
    if kind == K_COMMA:
        put(&r.out, 0x2C)
    else:
        emit(r, kind, value)
    if kind == K_CLOSE and r.row == r.depth + 1:
        r.row = 0
        skip_rows(r)
    r.kind = kind
    r.word = word
    return True


cdef void start(
    Printer *r, const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings, uint8_t *to, Py_ssize_t cap
) noexcept nogil:
    tokens_start(&r.tokens, text, n, dialect, std_strings)
    r.out.to = to
    r.out.n = 0
    r.out.cap = cap
    r.out.hash = <uint64_t>0xCBF29CE484222325
    r.out.last = 0
    r.out.full = False
    r.number = 0
    r.depth = 0
    r.list = 0
    r.row = 0
    r.literals = False
    r.kind = K_END
    r.word = W_NONE
    r.set = SET_FIRST


cdef Py_ssize_t sql_digest(
    const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings, uint8_t *out, Py_ssize_t cap
) noexcept nogil:
    cdef Printer r
    if cap <= 0:
        return 0
    start(&r, text, n, dialect, std_strings, out, cap)
    while not r.out.full and step(&r):
        pass
    return finish(&r.out)


cdef uint64_t sql_digest_hash(const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings) noexcept nogil:
    cdef Printer r
    start(&r, text, n, dialect, std_strings, NULL, 0)
    while step(&r):
        pass
    return r.out.hash


def digest(bytes text not None, dialect=POSTGRESQL, std_strings=True, Py_ssize_t limit=1024):
    if limit < 0:
        raise ValueError("a digest has no negative length")
    out = PyBytes_FromStringAndSize(NULL, limit)
    return out[:sql_digest(text, len(text), dialect, std_strings, <uint8_t*>PyBytes_AS_STRING(out), limit)]


def digest_hash(bytes text not None, dialect=POSTGRESQL, std_strings=True):
    return sql_digest_hash(text, len(text), dialect, std_strings)
