"""The tokens of a text that is there as a whole. `_lex` finds the same ones in pieces, at a nanosecond or two per byte.

Knows what is a literal in PostgreSQL and in MySQL, and no word's meaning. Each literal is one token with all that belongs
to it: prefix (e'', _utf8''), continuation lines, dollar tag. Where it cannot be told for certain what is a literal, the
answer is K_UNREADABLE, and again K_UNREADABLE for every further call.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from proxy.sql._chars cimport F_BLANK, F_DIGIT, F_ESCAPES, F_IDENT, F_LINE, F_TAG, FLAGS, find, holds, skip
from proxy.sql._lex cimport MYSQL_ANSI, POSTGRESQL


cdef void tokens_start(Tokens *t, const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings) noexcept nogil:
    t.text = text
    t.n = n
    t.start = 0
    t.stop = 0
    t.dialect = dialect
    t.std_strings = std_strings
    t.blank = False
    t.inside = False


cdef inline int at(const Tokens *t, Py_ssize_t i) noexcept nogil:
    """The byte at `i`, or -1 behind the end."""
    return t.text[i] if i < t.n else -1


# ---------------------------------------------------------------- blanks and comments

cdef Py_ssize_t nested_comment(const Tokens *t, Py_ssize_t i) noexcept nogil:
    """The end of the comment whose inside begins at `i`, or -1."""
    cdef Py_ssize_t depth = 1
    while i + 1 < t.n:
        if t.text[i] == 0x2A and t.text[i + 1] == 0x2F:
            i += 2
            depth -= 1
            if depth == 0:
                return i
        elif t.text[i] == 0x2F and t.text[i + 1] == 0x2A:
            i += 2
            depth += 1
        else:
            i += 1
    return -1


cdef Py_ssize_t flat_comment(const Tokens *t, Py_ssize_t i, bint hint) noexcept nogil:
    """The same for MySQL; also -1 for a hint in which a quote is open at its end."""
    cdef uint8_t quote = 0
    cdef uint8_t c
    while i + 1 < t.n:
        c = t.text[i]
        if c == 0x2A and t.text[i + 1] == 0x2F:
            return -1 if quote else i + 2
        if hint and (c == 0x27 or c == 0x22 or c == 0x60):
            quote = 0 if quote == c else quote if quote else c
        i += 1
    return -1


cdef Py_ssize_t mysql_comment(Tokens *t, Py_ssize_t i) noexcept nogil:
    """The end of the comment that begins at `i`, or of its opening if its text is SQL, or -1."""
    cdef int c = at(t, i + 2)
    if t.inside:                             # which of two */ ends which comment
        return -1
    if c == 0x21 or (c == 0x4D and at(t, i + 3) == 0x21):          # ! M!
        t.inside = True
        return skip(t.text, i + (3 if c == 0x21 else 4), t.n, F_DIGIT)
    return flat_comment(t, i + 2, c == 0x2B)


cdef Py_ssize_t blanks(Tokens *t, Py_ssize_t i) noexcept nogil:
    """Where the next token begins, or -1."""
    cdef Py_ssize_t start = i
    cdef bint mysql = t.dialect != POSTGRESQL
    cdef int c, second
    while i < t.n:
        c = t.text[i]
        if FLAGS[c] & F_BLANK:
            i += 1
            continue
        if c != 0x2D and c != 0x2F and not (mysql and (c == 0x23 or c == 0x2A)):
            break
        second = at(t, i + 1)
        if mysql and (c == 0x23 or (c == 0x2D and second == 0x2D and (at(t, i + 2) <= 0x20 or at(t, i + 2) == 0x7F))):
            start = i
            i = find(t.text, i, t.n, 0x0A)
            if holds(t.text, start, i, 0) or (t.inside and holds(t.text, start, i, 0x2A)):
                return -1
        elif not mysql and c == 0x2D and second == 0x2D:
            i = skip(t.text, i, t.n, F_LINE)
        elif c == 0x2F and second == 0x2A:
            i = mysql_comment(t, i) if mysql else nested_comment(t, i + 2)
            if i < 0:
                return -1
        elif t.inside and c == 0x2A and second == 0x2F:
            t.inside = False
            i += 2
        else:
            break
    if i == t.n and t.inside:
        return -1
    t.blank = i > t.stop
    return i


# ---------------------------------------------------------------- strings and names

cdef Py_ssize_t quoted(const Tokens *t, Py_ssize_t i, uint8_t quote, bint escapes, bint doubled) noexcept nogil:
    """The end of what begins behind its quote at `i`, or -1."""
    cdef Py_ssize_t start = i
    while i < t.n:
        if not escapes:
            i = find(t.text, i, t.n, quote)
        elif quote == 0x27:
            i = skip(t.text, i, t.n, F_ESCAPES)
        if i >= t.n:
            break
        if t.text[i] == 0x5C and escapes:
            i += 2
        elif t.text[i] != quote:
            i += 1
        elif doubled and at(t, i + 1) == quote:
            i += 2
        else:
            return -1 if t.inside and holds(t.text, start, i, 0x2A) else i + 1
    return -1


cdef Py_ssize_t next_line(const Tokens *t, Py_ssize_t i) noexcept nogil:
    """Behind the ' on a later line with which PostgreSQL's string goes on, or -1."""
    cdef bint newline = False
    while i < t.n:
        if FLAGS[t.text[i]] & F_BLANK:
            newline = newline or not FLAGS[t.text[i]] & F_LINE
            i += 1
        elif t.text[i] == 0x2D and at(t, i + 1) == 0x2D:
            i = skip(t.text, i, t.n, F_LINE)
        elif t.text[i] == 0x27 and newline:
            return i + 1
        else:
            break
    return -1


cdef Py_ssize_t pg_string(const Tokens *t, Py_ssize_t i, bint escapes, bint doubled) noexcept nogil:
    cdef Py_ssize_t stop
    while True:
        stop = quoted(t, i, 0x27, escapes, doubled)
        if stop < 0:
            return -1
        i = next_line(t, stop)
        if i < 0:
            return stop


cdef Py_ssize_t dollar_quoted(const Tokens *t, Py_ssize_t i) noexcept nogil:
    """The end of $tag$…$tag$, whose first $ is at `i`; `i` itself if this is none, or -1."""
    cdef Py_ssize_t inside = skip(t.text, i + 1, t.n, F_TAG) + 1
    cdef Py_ssize_t size = inside - i
    cdef Py_ssize_t stop = inside
    if at(t, inside - 1) != 0x24 or FLAGS[t.text[i + 1]] & F_DIGIT:
        return i
    while True:
        stop = find(t.text, stop, t.n, 0x24)
        if stop + size > t.n:
            return -1
        if memcmp(t.text + stop, t.text + i, size) == 0:
            return stop + size
        stop += 1


# ---------------------------------------------------------------- words and numbers

cdef uint8_t done(Tokens *t, uint8_t kind, Py_ssize_t stop) noexcept nogil:
    """The token ends at `stop`; or (-1) nothing more of the text can be told."""
    if stop < 0:
        t.stop = -1
        return K_UNREADABLE
    t.stop = stop
    return kind


cdef Py_ssize_t exponent(const Tokens *t, Py_ssize_t i) noexcept nogil:
    """Behind the exponent at `i`, if there is one."""
    cdef Py_ssize_t digits = i + 1
    if at(t, i) | 0x20 != 0x65:
        return i
    if at(t, digits) == 0x2B or at(t, digits) == 0x2D:
        digits += 1
    cdef Py_ssize_t stop = skip(t.text, digits, t.n, F_DIGIT)
    return stop if stop > digits else i


cdef Py_ssize_t pg_number(const Tokens *t, Py_ssize_t i) noexcept nogil:
    cdef int second = at(t, i + 1) | 0x20
    if t.text[i] == 0x30 and (second == 0x78 or second == 0x6F or second == 0x62):       # 0x 0o 0b
        return skip(t.text, i + 2, t.n, F_TAG)
    while True:
        i = skip(t.text, i, t.n, F_DIGIT)
        if at(t, i) == 0x5F and i + 1 < t.n and FLAGS[t.text[i + 1]] & F_DIGIT:          # 1_000
            i += 1
        elif at(t, i) == 0x2E and at(t, i + 1) != 0x2E:
            i += 1                           # 1.2.3 is no number, but its digits are those of literals
        else:
            return exponent(t, i)


cdef uint8_t mysql_number(Tokens *t, Py_ssize_t i) noexcept nogil:
    """A number, or a word that begins with digits."""
    cdef Py_ssize_t digits = skip(t.text, i, t.n, F_DIGIT)
    cdef Py_ssize_t stop = exponent(t, digits)
    if stop > digits:
        return done(t, K_LITERAL, stop)
    if at(t, digits) == 0x2E:
        return done(t, K_LITERAL, exponent(t, skip(t.text, digits + 1, t.n, F_DIGIT)))
    stop = skip(t.text, digits, t.n, F_IDENT)
    if stop == digits or (t.text[i] == 0x30 and digits == i + 1 and (t.text[digits] == 0x78 or t.text[digits] == 0x62)):
        return done(t, K_LITERAL, stop)      # 1 0x1F 0b01
    return done(t, K_WORD, stop)


cdef uint8_t pg_word(Tokens *t, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t stop = skip(t.text, i + 1, t.n, F_IDENT)
    cdef int c = at(t, stop)
    cdef uint8_t only = t.text[i] | 0x20 if stop == i + 1 else 0
    if only == 0x75 and c == 0x26:           # u&
        if at(t, stop + 1) == 0x27:
            return done(t, K_LITERAL, pg_string(t, stop + 2, False, True))
        if at(t, stop + 1) == 0x22:
            return done(t, K_NAME, quoted(t, stop + 2, 0x22, False, True))
    elif c == 0x27:
        if only == 0x65:                     # e
            return done(t, K_LITERAL, pg_string(t, stop + 1, True, True))
        if only == 0x62 or only == 0x78:     # b x
            return done(t, K_LITERAL, pg_string(t, stop + 1, False, False))
        if only == 0x6E:                     # n
            return done(t, K_LITERAL, pg_string(t, stop + 1, not t.std_strings, True))
    return done(t, K_WORD, stop)


cdef uint8_t mysql_word(Tokens *t, Py_ssize_t i) noexcept nogil:
    cdef Py_ssize_t stop = skip(t.text, i + 1, t.n, F_IDENT)
    cdef int c = at(t, stop)
    cdef uint8_t first = t.text[i] | 0x20
    if c == 0x27 or (c == 0x22 and t.dialect != MYSQL_ANSI):
        # _utf8'…' n'…' x'…' b'…'
        if t.text[i] == 0x5F or (stop == i + 1 and (first == 0x6E or first == 0x78 or first == 0x62)):
            return done(t, K_LITERAL, quoted(t, stop + 1, <uint8_t>c, not t.std_strings, True))
    return done(t, K_WORD, stop)


cdef Py_ssize_t variable(const Tokens *t, Py_ssize_t i) noexcept nogil:
    """Behind the name of a user variable, if it is not quoted; @ and @@ alone are words too."""
    if at(t, i) == 0x40:
        return i + 1
    while i < t.n and (FLAGS[t.text[i]] & F_IDENT or t.text[i] == 0x2E):
        i += 1
    return i


cdef uint8_t mysql_quoted(Tokens *t, Py_ssize_t i, uint8_t quote) noexcept nogil:
    cdef Py_ssize_t stop
    if quote == 0x27 or (quote == 0x22 and t.dialect != MYSQL_ANSI):
        return done(t, K_LITERAL, quoted(t, i + 1, quote, not t.std_strings, True))
    stop = quoted(t, i + 1, quote, False, True)
    if stop >= 0 and holds(t.text, i, stop, 0):
        stop = -1                            # which ends the name
    return done(t, K_NAME, stop)


cdef uint8_t next_token(Tokens *t) noexcept nogil:
    cdef bint mysql = t.dialect != POSTGRESQL
    cdef Py_ssize_t i, stop
    cdef uint8_t c
    if t.stop < 0:
        return K_UNREADABLE
    i = blanks(t, t.stop)
    if i < 0:
        return done(t, K_UNREADABLE, -1)
    t.start = i
    if i == t.n:
        return done(t, K_END, i)
    c = t.text[i]
    if FLAGS[c] & F_DIGIT or (c == 0x2E and i + 1 < t.n and FLAGS[t.text[i + 1]] & F_DIGIT):
        return mysql_number(t, i) if mysql else done(t, K_LITERAL, pg_number(t, i))
    elif FLAGS[c] & (F_IDENT if mysql else F_TAG):
        return mysql_word(t, i) if mysql else pg_word(t, i)
    elif c == 0x2C:
        return done(t, K_COMMA, i + 1)
    elif c == 0x28 or c == 0x5B:
        return done(t, K_OPEN, i + 1)
    elif c == 0x29 or c == 0x5D:
        return done(t, K_CLOSE, i + 1)
    elif c == 0x3B:
        return done(t, K_SEMICOLON, i + 1)
    elif c == 0x2B or c == 0x2D:
        return done(t, K_SIGN, i + 1)
    elif mysql:
        if c == 0x27 or c == 0x22 or c == 0x60:
            return mysql_quoted(t, i, c)
        if c == 0x3F:
            return done(t, K_PARAMETER, i + 1)
        if c == 0x40:
            return done(t, K_WORD, variable(t, i + 1))
        return done(t, K_OTHER, i + 1 if c else -1)
    elif c == 0x27:
        return done(t, K_LITERAL, pg_string(t, i + 1, not t.std_strings, True))
    elif c == 0x22:
        return done(t, K_NAME, quoted(t, i + 1, 0x22, False, True))
    elif c == 0x24 and i + 1 < t.n:          # $
        stop = skip(t.text, i + 1, t.n, F_DIGIT)
        if stop > i + 1:
            return done(t, K_PARAMETER, stop)
        stop = dollar_quoted(t, i)
        if stop != i:
            return done(t, K_LITERAL, stop)
    return done(t, K_OTHER, i + 1)


def tokens(bytes text not None, Py_ssize_t start=0, dialect=POSTGRESQL, bint std_strings=True, Py_ssize_t limit=-1):
    """[(Kind, start, stop), …] from `start` on, a place between two tokens; at most `limit` if that is not negative.

    The last of a text is K_END; or K_UNREADABLE, which begins behind the token before it and ends with the text.
    """
    cdef Tokens t
    cdef Py_ssize_t before
    cdef uint8_t kind = K_COMMA
    if not 0 <= start <= len(text):
        raise ValueError("a text is read from a place in it")
    tokens_start(&t, <const uint8_t*>text, len(text), dialect, std_strings)
    t.stop = start
    found = []
    while kind != K_END and kind != K_UNREADABLE and limit:
        limit -= 1
        before = t.stop
        kind = next_token(&t)
        if kind == K_UNREADABLE:
            found.append((kind, before, len(text)))
        else:
            found.append((kind, t.start, t.stop))
    return found
