"""The resumable scanner over MySQL's and MariaDB's SQL: finds tokens as sql_lex.cc does and hands them to `_rules_mysql`.

What `_lex` says of itself holds here too: one pass, any split of a text gives the same answer, nothing kept but the
start of a word. Where two servers, or two settings the proxy does not know, read a text differently, either both
readings come to the same here, or PIN_UNREADABLE says so and the rest is not read:

- `/*! … */` and `/*!50699 … */` are SQL everywhere. Higher versions, and `/*M! … */`, are SQL for some servers and a
  comment for others. They are read as SQL; `rules_mysql_maybe` sees to it that leaving them out comes to the same, and
  none of their strings, names or comments may hold what could be the end of the comment.
- A hint `/*+ … */` has quoted names on one server and is a plain comment on another.
- A zero byte outside of strings and comments ends a name or a line comment, perhaps the text.
- "…" is a string for MYSQL, a name for MYSQL_ANSI. Whoever does not know sql_mode takes MYSQL: then \\" is no end.
"""

from libc.stdint cimport uint8_t, uint32_t

from proxy._reasons cimport PIN_UNREADABLE
from proxy.sql._chars cimport F_BLANK, F_DIGIT, F_IDENT, F_STRING, FLAGS, find, holds, skip
from proxy.sql._lex cimport MYSQL_ANSI, Lex, keep
from proxy.sql._rules cimport LEX_EMPTY, T_CLOSE, T_COMMA, T_DOT, T_NAME, T_OPEN, T_OTHER, T_STRING, T_WORD, rules_pin
from proxy.sql._rules_mysql cimport (
    T_ASSIGN, T_COLON, T_SYSTEM, T_USER, rules_mysql_end, rules_mysql_maybe, rules_mysql_notable, rules_mysql_token,
)

cdef enum State:
    M_NORMAL = 0
    M_WORD               # its bytes so far are in `word`; may have begun with digits
    M_NUMBER             # digits, so far
    M_EXPONENT           # 1e  : exponent, or the word "1e…"
    M_EXPONENT_SIGN      # 1e+ : `kind` is the sign
    M_EXPONENT_DIGITS
    M_DOT
    M_FRACTION           # .5 or 1.
    M_DASH               # -
    M_DASHES             # --  : a comment if a blank or control character follows
    M_LINE               # # or -- to the end of the line
    M_SLASH
    M_OPENED             # /*
    M_OPENED_M           # /*M
    M_VERSION            # /*! or /*M! : the digits so far are in `word`
    M_COMMENT
    M_COMMENT_STAR
    M_HINT               # /*+ : `matched` is the quote that is open
    M_HINT_STAR
    M_STAR               # * in a comment that is SQL
    M_QUOTED             # '…', "…" or `…` : `kind` is the quote
    M_BACKSLASH
    M_QUOTED_QUOTE       # behind a quote in there: the end, or one of two
    M_AT                 # @
    M_VARIABLE           # the unquoted name of a user variable
    M_COLON              # :
    M_DEAD               # not read any further

cdef enum Sql:           # in `nesting`: inside of a comment that is SQL …
    NO_COMMENT = 0
    SURELY               # … for every server
    MAYBE                # … for some

cdef enum Class:
    C_OTHER = 0
    C_BLANK, C_LETTER, C_DIGIT, C_QUOTE, C_TICK, C_DASH, C_SLASH, C_OPEN, C_CLOSE, C_COMMA, C_SEMICOLON, C_DOT, C_HASH
    C_STAR, C_AT, C_COLON, C_ZERO

cdef uint8_t[256] CLASS
cdef const uint32_t *NOTABLE = rules_mysql_notable()


cdef int fill_tables() except -1:
    cdef int c
    for c in range(256):
        CLASS[c] = C_OTHER
        if FLAGS[c] & F_DIGIT:
            CLASS[c] = C_DIGIT
        elif FLAGS[c] & F_IDENT:
            CLASS[c] = C_LETTER
        elif FLAGS[c] & F_BLANK:
            CLASS[c] = C_BLANK
    for text, code in (("'", C_QUOTE), ('"', C_QUOTE), ("`", C_TICK), ("-", C_DASH), ("/", C_SLASH), ("(", C_OPEN),
                       (")", C_CLOSE), (",", C_COMMA), (";", C_SEMICOLON), (".", C_DOT), ("#", C_HASH), ("*", C_STAR),
                       ("@", C_AT), (":", C_COLON), ("\0", C_ZERO)):
        CLASS[ord(text)] = code
    return 0


fill_tables()


cdef inline void token(Lex *lx, uint8_t kind) noexcept nogil:
    """A token without a text of its own, that matters only while `hot`."""
    if lx.rules.hot:
        rules_mysql_token(&lx.rules, kind, NULL, 0)


cdef inline void text_token(Lex *lx, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil:
    if lx.rules.hot or (0 < n < 64 and (NOTABLE[n] >> (w[0] & 31)) & 1):
        rules_mysql_token(&lx.rules, kind, w, n)


cdef Py_ssize_t refuse(Lex *lx, Py_ssize_t n) noexcept nogil:
    lx.rules.mask &= ~LEX_EMPTY
    rules_pin(&lx.rules, PIN_UNREADABLE)
    lx.state = M_DEAD
    return n


cdef inline bint is_name(const Lex *lx) noexcept nogil:
    """Whether the quote in `kind` is one of names."""
    return lx.kind == 0x60 or (lx.kind == 0x22 and lx.dialect == MYSQL_ANSI)


cdef void end_quoted(Lex *lx) noexcept nogil:
    lx.state = M_NORMAL
    if lx.kind == 0x27:
        token(lx, T_STRING)
    else:
        text_token(lx, T_NAME if is_name(lx) else T_STRING, lx.word, lx.word_len)


cdef Py_ssize_t plain(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """M_NORMAL from `i` on, with short cuts for what lies in one piece; ends where another state has to take over."""
    cdef Py_ssize_t start
    cdef uint8_t code
    while i < n:
        code = CLASS[p[i]]
        if code == C_BLANK:
            i += 1
        elif code == C_LETTER:
            start = i
            i = skip(p, i + 1, n, F_IDENT)
            if i == n:
                lx.word_len = 0
                keep(lx, p + start, i - start)
                lx.state = M_WORD
                return i
            text_token(lx, T_WORD, p + start, i - start)
        elif code == C_COMMA:
            i += 1
            token(lx, T_COMMA)
        elif code == C_DIGIT:
            start = i
            i = skip(p, i + 1, n, F_DIGIT)
            if i == n or p[i] == 0x2E or FLAGS[p[i]] & F_IDENT:
                lx.word_len = 0
                keep(lx, p + start, i - start)
                lx.state = M_NUMBER
                return i
            token(lx, T_OTHER)
        elif code == C_QUOTE or code == C_TICK:
            lx.kind = p[i]
            lx.word_len = 0
            lx.state = M_QUOTED
            return i + 1
        elif code == C_OPEN:
            i += 1
            lx.rules.depth += 1
            token(lx, T_OPEN)
        elif code == C_CLOSE:
            i += 1
            if lx.rules.depth:
                lx.rules.depth -= 1
            token(lx, T_CLOSE)
        elif code == C_DOT:
            i += 1
            if i == n or FLAGS[p[i]] & F_DIGIT:
                lx.state = M_DOT
                return i
            token(lx, T_DOT)
        elif code == C_OTHER:
            i += 1
            token(lx, T_OTHER)
        elif code == C_SEMICOLON:
            i += 1
            rules_mysql_end(&lx.rules)
        elif code == C_STAR and lx.nesting == NO_COMMENT:
            i += 1
            token(lx, T_OTHER)
        elif code == C_ZERO:
            return refuse(lx, n)
        else:
            lx.state = (
                M_DASH if code == C_DASH else M_SLASH if code == C_SLASH else M_LINE if code == C_HASH
                else M_STAR if code == C_STAR else M_AT if code == C_AT else M_COLON
            )
            return i + 1
    return i


cdef Py_ssize_t quoted(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """M_QUOTED to M_QUOTED_QUOTE: one step from `i` < `n`."""
    cdef uint8_t c = p[i]
    cdef Py_ssize_t stop = i
    if lx.state == M_QUOTED:
        if lx.std_strings or is_name(lx):
            stop = find(p, i, n, lx.kind)
        else:
            while True:
                stop = skip(p, stop, n, F_STRING)
                if stop == n or p[stop] == lx.kind or p[stop] == 0x5C:
                    break
                stop += 1                    # the quote of the other kind
        if is_name(lx) and holds(p, i, stop, 0):
            return refuse(lx, n)
        if lx.nesting == MAYBE and holds(p, i, stop, 0x2A):
            return refuse(lx, n)
        if lx.kind != 0x27:
            keep(lx, p + i, stop - i)
        if stop < n:
            if p[stop] == lx.kind:
                lx.state = M_QUOTED_QUOTE
            else:
                keep(lx, p + stop, 1)
                lx.state = M_BACKSLASH
            stop += 1
    elif lx.state == M_BACKSLASH:
        if lx.nesting == MAYBE and c == 0x2A:
            return refuse(lx, n)
        lx.state = M_QUOTED
        stop += 1
    elif c == lx.kind:                       # M_QUOTED_QUOTE
        keep(lx, &c, 1)
        lx.state = M_QUOTED
        stop += 1
    else:
        end_quoted(lx)
    return stop


cdef Py_ssize_t number(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """M_WORD to M_FRACTION: one step from `i` < `n`."""
    cdef int state = lx.state
    cdef uint8_t c = p[i]
    cdef Py_ssize_t start = i
    if state == M_WORD:
        i = skip(p, i, n, F_IDENT)
        keep(lx, p + start, i - start)
        if i < n:
            text_token(lx, T_WORD, lx.word, lx.word_len)
            lx.state = M_NORMAL
    elif state == M_NUMBER:
        i = skip(p, i, n, F_DIGIT)
        keep(lx, p + start, i - start)
        if i == n:
            return i
        if p[i] | 0x20 == 0x65:              # e
            keep(lx, p + i, 1)
            lx.state = M_EXPONENT
            i += 1
        elif p[i] == 0x2E:
            lx.state = M_FRACTION
            i += 1
        elif FLAGS[p[i]] & F_IDENT:
            lx.state = M_WORD
        else:
            token(lx, T_OTHER)
            lx.state = M_NORMAL
    elif state == M_EXPONENT:
        if FLAGS[c] & F_DIGIT:
            token(lx, T_OTHER)
            lx.state = M_EXPONENT_DIGITS
        elif c == 0x2B or c == 0x2D:
            lx.kind = c
            lx.state = M_EXPONENT_SIGN
            i += 1
        else:
            lx.state = M_WORD
    elif state == M_EXPONENT_SIGN:
        if FLAGS[c] & F_DIGIT:
            token(lx, T_OTHER)
            lx.state = M_EXPONENT_DIGITS
        else:
            text_token(lx, T_WORD, lx.word, lx.word_len)
            end_sign(lx)
    elif state == M_EXPONENT_DIGITS:         # a word may follow at once: 1e5into
        i = skip(p, i, n, F_DIGIT)
        if i < n:
            lx.state = M_NORMAL
    elif state == M_DOT:
        token(lx, T_DOT)
        lx.state = M_FRACTION if FLAGS[c] & F_DIGIT else M_NORMAL
    else:                                    # M_FRACTION
        i = skip(p, i, n, F_DIGIT)
        if i == n:
            return i
        token(lx, T_OTHER)
        lx.state = M_NORMAL
        if p[i] | 0x20 == 0x65:
            lx.word_len = 0
            keep(lx, p + i, 1)
            lx.state = M_EXPONENT
            i += 1
    return i


cdef void end_sign(Lex *lx) noexcept nogil:
    """The sign behind 1e was an operator, or the beginning of a comment."""
    if lx.kind == 0x2D:
        lx.state = M_DASH
    else:
        token(lx, T_OTHER)
        lx.state = M_NORMAL


cdef Py_ssize_t version(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """M_VERSION: the number in front of a comment's SQL, which is no part of it."""
    cdef Py_ssize_t start = i
    i = skip(p, i, n, F_DIGIT)
    keep(lx, p + start, i - start)
    if i == n:
        return i
    lx.state = M_NORMAL
    # MariaDB leaves out 50700 to 99999, MySQL what is newer than itself; servers differ on what has not five digits
    if lx.kind == 0x21 and (lx.word_len == 0 or (lx.word_len == 5 and (
            lx.word[0] < 0x35 or (lx.word[0] == 0x35 and lx.word[1] == 0x30 and lx.word[2] < 0x37)))):
        lx.nesting = SURELY
    else:
        lx.nesting = MAYBE
        rules_mysql_maybe(&lx.rules, True)
    return i


cdef Py_ssize_t comment(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """M_DASH to M_STAR: one step from `i` < `n`."""
    cdef int state = lx.state
    cdef uint8_t c = p[i]
    cdef Py_ssize_t stop
    if state == M_DASH:
        if c == 0x2D:
            lx.state = M_DASHES
            return i + 1
        token(lx, T_OTHER)
        lx.state = M_NORMAL
    elif state == M_DASHES:
        if c <= 0x20 or c == 0x7F:
            lx.state = M_LINE
        else:
            token(lx, T_OTHER)
            if c == 0x2D:                    # of three, the first is an operator for certain
                return i + 1
            token(lx, T_OTHER)
            lx.state = M_NORMAL
    elif state == M_LINE:
        stop = find(p, i, n, 0x0A)
        if holds(p, i, stop, 0) or (lx.nesting == MAYBE and holds(p, i, stop, 0x2A)):
            return refuse(lx, n)
        if stop < n:
            lx.state = M_NORMAL
        return stop
    elif state == M_SLASH:
        if c == 0x2A:
            lx.state = M_OPENED
            return i + 1
        token(lx, T_OTHER)
        lx.state = M_NORMAL
    elif state == M_OPENED or state == M_OPENED_M:
        if lx.nesting == MAYBE or (lx.nesting == SURELY and (c == 0x21 or state == M_OPENED_M)):
            return refuse(lx, n)             # which of two */ ends which comment
        if c == 0x21:                        # !
            lx.kind = 0x4D if state == M_OPENED_M else c
            lx.word_len = 0
            lx.state = M_VERSION
            return i + 1
        lx.matched = 0
        lx.state = M_COMMENT
        if state == M_OPENED and c == 0x4D:
            lx.state = M_OPENED_M
            return i + 1
        if state == M_OPENED and c == 0x2B:
            lx.state = M_HINT
            return i + 1
    elif state == M_VERSION:
        return version(lx, p, i, n)
    elif state == M_COMMENT:
        i = find(p, i, n, 0x2A)
        if i < n:
            lx.state = M_COMMENT_STAR
            return i + 1
    elif state == M_COMMENT_STAR:
        if c == 0x2F:
            lx.state = M_NORMAL
            return i + 1
        if c == 0x2A:
            return i + 1
        lx.state = M_COMMENT
    elif state == M_HINT or state == M_HINT_STAR:
        if state == M_HINT_STAR and c == 0x2F:
            if lx.matched:                   # the end of a comment, or a part of a name
                return refuse(lx, n)
            lx.state = M_NORMAL
            return i + 1
        if c == 0x27 or c == 0x22 or c == 0x60:
            lx.matched = 0 if lx.matched == c else lx.matched if lx.matched else c
        lx.state = M_HINT_STAR if c == 0x2A else M_HINT
        return i + 1
    else:                                    # M_STAR
        if c == 0x2F:
            if lx.nesting == MAYBE:
                rules_mysql_maybe(&lx.rules, False)
            lx.nesting = NO_COMMENT
            lx.state = M_NORMAL
            return i + 1
        token(lx, T_OTHER)
        lx.state = M_NORMAL
    return i


cdef void mysql_feed(Lex *lx, const uint8_t *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef int state
    cdef uint8_t c
    while i < n:
        state = lx.state
        c = p[i]
        if state == M_NORMAL:
            i = plain(lx, p, i, n)
        elif state <= M_FRACTION:
            i = number(lx, p, i, n)
        elif state <= M_STAR:
            i = comment(lx, p, i, n)
        elif state <= M_QUOTED_QUOTE:
            i = quoted(lx, p, i, n)
        elif state == M_AT:
            if c == 0x40:
                rules_mysql_token(&lx.rules, T_SYSTEM, NULL, 0)
                lx.state = M_NORMAL
                i += 1
            else:
                token(lx, T_USER)
                lx.state = M_VARIABLE
        elif state == M_VARIABLE:            # letters, digits, $ and points
            i = skip(p, i, n, F_IDENT)
            if i < n:
                if p[i] == 0x2E:
                    i += 1
                else:
                    lx.state = M_NORMAL
        elif state == M_COLON:
            lx.state = M_NORMAL
            if c == 0x3D:
                rules_mysql_token(&lx.rules, T_ASSIGN, NULL, 0)
                i += 1
            else:
                rules_mysql_token(&lx.rules, T_COLON, NULL, 0)
        else:                                # M_DEAD
            return


cdef void mysql_end(Lex *lx) noexcept nogil:
    cdef int state = lx.state
    if state == M_DEAD:
        return
    if state == M_WORD or state == M_EXPONENT or state == M_EXPONENT_SIGN:
        text_token(lx, T_WORD, lx.word, lx.word_len)
        if state == M_EXPONENT_SIGN:
            token(lx, T_OTHER)
    elif state == M_NUMBER or state == M_FRACTION or state == M_DASH or state == M_SLASH or state == M_STAR:
        token(lx, T_OTHER)
    elif state == M_DOT:
        token(lx, T_DOT)
    elif state == M_QUOTED_QUOTE:
        end_quoted(lx)
    elif state == M_AT:
        token(lx, T_USER)
    elif state == M_COLON:
        rules_mysql_token(&lx.rules, T_COLON, NULL, 0)
    elif M_OPENED <= state <= M_HINT_STAR or M_QUOTED <= state <= M_BACKSLASH:
        refuse(lx, 0)
    if lx.nesting != NO_COMMENT:
        refuse(lx, 0)
    rules_mysql_end(&lx.rules)
    lx.state = M_DEAD
