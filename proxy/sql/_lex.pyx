"""A resumable scanner over SQL text, one pass, 0.1 to 1.5 ns per byte (strings, VALUES lists): what session state can it touch?

Finds the tokens exactly as PostgreSQL's scan.l does, and hands those that may matter to `_rules`, which decides. Knows
no message, session or server. A query may be gigabytes long and passes through in pieces: everything between two bytes
is in `Lex`, and any split of a text gives the same answer. Nothing is kept of a text but the first 64 bytes of a word
that reaches over the end of a piece.

The states below are scan.l's start conditions plus one state for each place where it looks ahead. The text is read in
the client's encoding, which is right for those in which an ASCII byte always is that ASCII character. In the others
(SJIS, BIG5, GBK, UHC, JOHAB, GB18030) nothing is read: PIN_ENCODING.

Between PostgreSQL versions, what one reads and another refuses is read (10 to 14: `1and`; 16: \\v is a blank).
"""

from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from proxy._reasons cimport PIN_ENCODING, PIN_UNREADABLE
from proxy.sql._boring cimport boring_stretch
from proxy.sql._chars cimport (
    F_BLANK, F_COMMENT, F_DIGIT, F_ESCAPES, F_IDENT, F_LINE, F_TAG, FLAGS, find, holds, skip,
)
from proxy.sql._lex_mysql cimport mysql_end, mysql_feed
from proxy.sql._rules cimport (
    T_CLOSE, T_COMMA, T_DOT, T_NAME, T_OPEN, T_OTHER, T_STRING, T_WORD,
    rules_end, rules_notable, rules_pin, rules_start, rules_token,
)
from proxy.sql._rules_mysql cimport (
    LEX_CALC_FOUND_ROWS, LEX_DIAGNOSTICS, LEX_FOUND_ROWS, LEX_LAST_INSERT_ID, LEX_LAST_INSERT_ID_SET, LEX_MULTIPLE,
    LEX_ROW_COUNT, LEX_USE_DATABASE, rules_mysql_start,
)

SIZE = sizeof(Lex)
DROP_DATABASE = LEX_DROP_DATABASE
TRANSACTION_START = LEX_TRANSACTION_START
EMPTY = LEX_EMPTY
EFFECTS = LEX_EFFECTS
TRANSACTION_END = LEX_TRANSACTION_END
ENDS = LEX_ENDS
LOCAL = LEX_LOCAL
LAST_INSERT_ID = LEX_LAST_INSERT_ID
LAST_INSERT_ID_SET = LEX_LAST_INSERT_ID_SET
FOUND_ROWS = LEX_FOUND_ROWS
CALC_FOUND_ROWS = LEX_CALC_FOUND_ROWS
ROW_COUNT = LEX_ROW_COUNT
DIAGNOSTICS = LEX_DIAGNOSTICS
USE_DATABASE = LEX_USE_DATABASE
MULTIPLE = LEX_MULTIPLE

cdef enum State:
    S_NORMAL = 0
    S_WORD               # identifier or keyword; its bytes so far are in `word`
    S_UAMP               # u& : a string, a name, or the word "u" and an operator
    S_DASH               # -  : comment or operator
    S_SLASH              # /  : comment or operator
    S_LINE               # -- to the end of the line
    S_COMMENT            # /* nested */
    S_COMMENT_STAR
    S_COMMENT_SLASH
    S_STRING             # ends at '
    S_ESCAPES            # the same with backslashes
    S_BACKSLASH
    S_STRING_QUOTE       # behind a ' in a string: the end, or one of two
    S_GAP                # blanks behind a string, which goes on if the next line begins with '
    S_GAP_DASH
    S_GAP_LINE
    S_NAME               # "quoted"
    S_NAME_QUOTE
    S_NUMBER             # 1
    S_POINT              # 1.
    S_FRACTION           # 1.5 or 1.
    S_EXPONENT           # 1e  : exponent, or the word "e…"
    S_EXPONENT_PLUS      # 1e+
    S_EXPONENT_MINUS     # 1e-
    S_EXPONENT_DIGITS
    S_DOLLAR             # $  : parameter, dollar quote, or nonsense
    S_PARAMETER
    S_TAG                # $tag
    S_QUOTED             # $tag$ …
    S_QUOTED_TAG         # behind a $ in there: perhaps the closing tag
    S_DEAD               # not read any further

cdef enum Kind:          # of string: what a quote or backslash in it means
    K_STANDARD = 0
    K_ESCAPES = 1
    K_BITS = 2           # b'' and x'': no doubled quotes

cdef enum Class:         # of a byte, outside of quotes and comments
    C_OTHER = 0
    C_BLANK, C_LETTER, C_DIGIT, C_QUOTE, C_DOUBLE_QUOTE, C_DOLLAR, C_DASH, C_SLASH, C_OPEN, C_CLOSE, C_COMMA
    C_SEMICOLON, C_DOT

cdef uint8_t[256] CLASS
cdef const uint32_t *NOTABLE = rules_notable()


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
    for text, code in (("'", C_QUOTE), ('"', C_DOUBLE_QUOTE), ("$", C_DOLLAR), ("-", C_DASH), ("/", C_SLASH),
                       ("(", C_OPEN), (")", C_CLOSE), (",", C_COMMA), (";", C_SEMICOLON), (".", C_DOT)):
        CLASS[ord(text)] = code
    return 0


fill_tables()


cdef inline void token(Lex *lx, uint8_t kind) noexcept nogil:
    """A token without a text of its own."""
    if lx.rules.hot:
        rules_token(&lx.rules, kind, NULL, 0)


cdef inline void text_token(Lex *lx, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil:
    if lx.rules.hot or (0 < n < 64 and (NOTABLE[n] >> (w[0] & 31)) & 1):
        rules_token(&lx.rules, kind, w, n)


cdef void lex_start(Lex *lx, uint8_t dialect, bint std_strings, bint ascii_safe) noexcept nogil:
    rules_start(&lx.rules)
    lx.state = S_NORMAL                      # the other fields are set where their state begins
    lx.std_strings = std_strings
    lx.dialect = POSTGRESQL
    if not ascii_safe:
        lx.rules.mask = 0
        rules_pin(&lx.rules, PIN_ENCODING)
        lx.state = S_DEAD
    elif dialect == MYSQL or dialect == MYSQL_ANSI:
        rules_mysql_start(&lx.rules)
        lx.dialect = dialect
        lx.nesting = 0
    elif dialect != POSTGRESQL:
        refuse(lx)


cdef void refuse(Lex *lx) noexcept nogil:
    lx.rules.mask &= ~LEX_EMPTY
    rules_pin(&lx.rules, PIN_UNREADABLE)
    lx.state = S_DEAD


cdef int string_state(Lex *lx, uint8_t kind) noexcept nogil:
    token(lx, T_STRING)
    lx.kind = kind
    return S_ESCAPES if kind == K_ESCAPES else S_STRING


cdef int end_word(Lex *lx, int c) noexcept nogil:
    """`word` is complete and `c` (-1: nothing) comes next. The state behind `c` if `c` belongs to it (e'); else -1."""
    cdef uint8_t only = lx.word[0] | 0x20 if lx.word_len == 1 else 0
    if c == 0x27:        # '
        if only == 0x65:                     # e
            return string_state(lx, K_ESCAPES)
        if only == 0x62 or only == 0x78:     # b x
            return string_state(lx, K_BITS)
    elif c == 0x26 and only == 0x75:         # & u
        return S_UAMP
    text_token(lx, T_WORD, lx.word, lx.word_len)
    return -1


cdef void end_name(Lex *lx) noexcept nogil:
    if not lx.escaped:
        text_token(lx, T_NAME, lx.word, lx.word_len)
        return
    # U&"s\0065t_config": a name spelt in code points, which UESCAPE could even redefine. It may be any.
    rules_pin(&lx.rules, PIN_UNREADABLE)
    token(lx, T_NAME)


cdef Py_ssize_t plain(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """S_NORMAL from `i` on, with short cuts for what lies in one piece; ends where another state has to take over."""
    cdef Py_ssize_t start, stop
    cdef uint8_t code
    while i < n:
        if not lx.rules.hot:
            i = boring_stretch(&lx.rules, p, i, n, lx.std_strings)
            if i == n:
                return i
        code = CLASS[p[i]]
        if code == C_BLANK:
            i += 1
        elif code == C_LETTER:
            start = i
            i = skip(p, i + 1, n, F_IDENT)
            if i == n or (i == start + 1 and (p[i] == 0x27 or p[i] == 0x26)):    # may go on, is perhaps the e of e'…'
                lx.word_len = 0
                keep(lx, p + start, i - start)
                lx.state = S_WORD
                return i
            text_token(lx, T_WORD, p + start, i - start)
        elif code == C_COMMA:
            i += 1
            token(lx, T_COMMA)
        elif code == C_DIGIT:
            token(lx, T_OTHER)
            i = skip(p, i + 1, n, F_DIGIT)
            if i == n or p[i] == 0x2E or p[i] | 0x20 == 0x65:      # . e
                lx.state = S_NUMBER
                return i
        elif code == C_QUOTE:
            lx.state = string_state(lx, K_STANDARD if lx.std_strings else K_ESCAPES)
            if lx.state == S_ESCAPES:
                return i + 1
            i = find(p, i + 1, n, 0x27)
            if i == n:
                return i
            i += 1
            if i == n or p[i] == 0x27 or p[i] == 0x2D or FLAGS[p[i]] & F_BLANK:
                lx.state = S_STRING_QUOTE
                return i
            lx.state = S_NORMAL
        elif code == C_DOUBLE_QUOTE:
            start = i + 1
            stop = find(p, start, n, 0x22)
            if stop + 1 < n and p[stop + 1] != 0x22:
                text_token(lx, T_NAME, p + start, stop - start)
                i = stop + 1
            else:
                lx.word_len = 0
                lx.unicode = False
                lx.escaped = False
                lx.state = S_NAME
                return start
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
            token(lx, T_DOT)
        elif code == C_OTHER:
            i += 1
            token(lx, T_OTHER)
        elif code == C_DOLLAR:
            lx.state = S_DOLLAR
            return i + 1
        elif code == C_DASH:
            i += 1
            if i == n or p[i] == 0x2D:
                lx.state = S_DASH
                return i
            token(lx, T_OTHER)
        elif code == C_SLASH:
            lx.state = S_SLASH
            return i + 1
        else:                                # C_SEMICOLON; inside parentheses (CREATE RULE) no end
            i += 1
            if lx.rules.depth:
                token(lx, T_OTHER)
            else:
                rules_end(&lx.rules)
    return i


cdef Py_ssize_t quoted(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """S_STRING to S_NAME_QUOTE: one step from `i` < `n`."""
    cdef int state = lx.state
    cdef uint8_t c = p[i]
    cdef Py_ssize_t stop
    if state == S_STRING:
        i = find(p, i, n, 0x27)
        if i < n:
            lx.state = S_STRING_QUOTE
            i += 1
    elif state == S_ESCAPES:
        i = skip(p, i, n, F_ESCAPES)
        if i < n:
            lx.state = S_STRING_QUOTE if p[i] == 0x27 else S_BACKSLASH
            i += 1
    elif state == S_BACKSLASH:
        lx.state = S_ESCAPES
        i += 1
    elif state == S_STRING_QUOTE:
        if c == 0x27 and lx.kind != K_BITS:
            lx.state = S_ESCAPES if lx.kind == K_ESCAPES else S_STRING
            i += 1
        else:
            lx.newline = False
            lx.state = S_GAP
    elif state == S_GAP:
        if FLAGS[c] & F_BLANK:
            if not FLAGS[c] & F_LINE:
                lx.newline = True
            i += 1
        elif c == 0x2D:
            lx.state = S_GAP_DASH
            i += 1
        elif c == 0x27 and lx.newline:
            lx.state = S_ESCAPES if lx.kind == K_ESCAPES else S_STRING
            i += 1
        else:
            lx.state = S_NORMAL
    elif state == S_GAP_DASH:
        if c == 0x2D:
            lx.state = S_GAP_LINE
            i += 1
        else:
            token(lx, T_OTHER)
            lx.state = S_NORMAL
    elif state == S_GAP_LINE:
        i = skip(p, i, n, F_LINE)
        if i < n:
            lx.state = S_GAP
    elif state == S_NAME:
        stop = find(p, i, n, 0x22)
        if lx.unicode and holds(p, i, stop, 0x5C):
            lx.escaped = True
        keep(lx, p + i, stop - i)
        i = stop
        if i < n:
            lx.state = S_NAME_QUOTE
            i += 1
    else:                                    # S_NAME_QUOTE
        if c == 0x22:
            keep(lx, &c, 1)
            lx.state = S_NAME
            i += 1
        else:
            end_name(lx)
            lx.state = S_NORMAL
    return i


cdef Py_ssize_t number(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """S_NUMBER to S_EXPONENT_DIGITS, S_PARAMETER: one step from `i` < `n`. The token was given at its first digit."""
    cdef int state = lx.state
    cdef uint8_t c = p[i]
    if state == S_NUMBER or state == S_FRACTION:
        i = skip(p, i, n, F_DIGIT)
        if i == n:
            return i
        c = p[i]
        if c | 0x20 == 0x65:                 # e
            lx.state = S_EXPONENT
            i += 1
        elif c == 0x2E and state == S_NUMBER:
            lx.state = S_POINT
            i += 1
        else:
            lx.state = S_NORMAL
    elif state == S_POINT:
        if c == 0x2E:                        # 1..2 is a range: the point was no part of the number
            token(lx, T_DOT)
            lx.state = S_NORMAL
            i += 1
        else:
            lx.state = S_FRACTION
    elif state == S_EXPONENT:
        if FLAGS[c] & F_DIGIT:
            lx.state = S_EXPONENT_DIGITS
            i += 1
        elif c == 0x2B or c == 0x2D:
            lx.state = S_EXPONENT_PLUS if c == 0x2B else S_EXPONENT_MINUS
            i += 1
        else:                                # before PostgreSQL 15, `1else` is two tokens
            lx.word[0] = 0x65
            lx.word_len = 1
            lx.state = S_WORD
    elif state == S_EXPONENT_PLUS or state == S_EXPONENT_MINUS:
        if FLAGS[c] & F_DIGIT:
            lx.state = S_EXPONENT_DIGITS
            i += 1
        else:
            text_token(lx, T_WORD, <const uint8_t*>b"e", 1)
            if state == S_EXPONENT_MINUS:
                lx.state = S_DASH
            else:
                token(lx, T_OTHER)
                lx.state = S_NORMAL
    else:                                    # S_EXPONENT_DIGITS, S_PARAMETER
        i = skip(p, i, n, F_DIGIT)
        if i < n:
            lx.state = S_NORMAL
    return i


cdef Py_ssize_t dollar(Lex *lx, const uint8_t *p, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """S_DOLLAR, S_TAG, S_QUOTED, S_QUOTED_TAG: one step from `i` < `n`."""
    cdef int state = lx.state
    cdef uint8_t c = p[i]
    cdef Py_ssize_t start = i
    if state == S_DOLLAR:
        lx.word_len = 0
        if FLAGS[c] & F_DIGIT:
            token(lx, T_OTHER)
            lx.state = S_PARAMETER
        elif c == 0x24 or FLAGS[c] & F_TAG:
            lx.state = S_TAG
        else:
            token(lx, T_OTHER)
            lx.state = S_NORMAL
    elif state == S_TAG:
        i = skip(p, i, n, F_TAG)
        keep(lx, p + start, i - start)
        if i == n:
            return i
        if p[i] != 0x24:                     # no quote: a lone $ and a word
            token(lx, T_OTHER)
            lx.state = S_WORD
        elif lx.word_len > WORD_MAX:         # a tag that cannot be kept cannot be found again
            refuse(lx)
        else:
            token(lx, T_STRING)
            lx.state = S_QUOTED
            i += 1
    elif state == S_QUOTED:
        i = find(p, i, n, 0x24)
        if i < n:
            lx.matched = 0
            lx.state = S_QUOTED_TAG
            i += 1
    else:                                    # S_QUOTED_TAG
        while i < n and lx.matched < lx.word_len and p[i] == lx.word[lx.matched]:
            lx.matched += 1
            i += 1
        if i == n:
            return i
        if p[i] != 0x24:
            lx.state = S_QUOTED
        elif lx.matched == lx.word_len:
            lx.state = S_NORMAL
            i += 1
        else:                                # not ours, but it may begin ours: a tag has no $ inside
            lx.matched = 0
            i += 1
    return i


cdef void lex_feed(Lex *lx, const uint8_t *p, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t start
    cdef int state, then
    cdef uint8_t c
    if lx.dialect != POSTGRESQL:
        mysql_feed(lx, p, n)
        return
    while i < n:
        state = lx.state
        c = p[i]
        if state == S_NORMAL:
            i = plain(lx, p, i, n)
        elif state == S_WORD:
            start = i
            i = skip(p, i, n, F_IDENT)
            keep(lx, p + start, i - start)
            if i == n:
                return
            then = end_word(lx, p[i])
            if then < 0:
                lx.state = S_NORMAL
            else:
                lx.state = <uint8_t>then
                i += 1
        elif state == S_UAMP:
            if c == 0x27:                    # u&'…': the backslash is read later, it hides no quote
                lx.state = string_state(lx, K_STANDARD)
                i += 1
            elif c == 0x22:
                lx.word_len = 0
                lx.unicode = True
                lx.escaped = False
                lx.state = S_NAME
                i += 1
            else:
                text_token(lx, T_WORD, lx.word, 1)
                token(lx, T_OTHER)
                lx.state = S_NORMAL
        elif state == S_DASH:
            if c == 0x2D:
                lx.state = S_LINE
                i += 1
            else:
                token(lx, T_OTHER)
                lx.state = S_NORMAL
        elif state == S_SLASH:
            if c == 0x2A:
                lx.nesting = 1
                lx.state = S_COMMENT
                i += 1
            else:
                token(lx, T_OTHER)
                lx.state = S_NORMAL
        elif state == S_LINE:
            i = skip(p, i, n, F_LINE)
            if i < n:
                lx.state = S_NORMAL
        elif state == S_COMMENT:
            i = skip(p, i, n, F_COMMENT)
            if i < n:
                lx.state = S_COMMENT_STAR if p[i] == 0x2A else S_COMMENT_SLASH
                i += 1
        elif state == S_COMMENT_STAR:
            if c == 0x2F:
                lx.nesting -= 1
                lx.state = S_COMMENT if lx.nesting else S_NORMAL
                i += 1
            elif c == 0x2A:
                i += 1
            else:
                lx.state = S_COMMENT
        elif state == S_COMMENT_SLASH:
            if c == 0x2A:
                lx.nesting += 1
                lx.state = S_COMMENT         # this star closes nothing: /*/ is open
                i += 1
            else:
                lx.state = S_COMMENT
        elif state <= S_NAME_QUOTE:
            i = quoted(lx, p, i, n)
        elif state <= S_EXPONENT_DIGITS or state == S_PARAMETER:
            i = number(lx, p, i, n)
        elif state != S_DEAD:
            i = dollar(lx, p, i, n)
        else:
            return


cdef uint64_t lex_end(Lex *lx) noexcept nogil:
    cdef int state = lx.state
    if lx.dialect != POSTGRESQL:
        mysql_end(lx)
        return lx.rules.mask
    if state == S_DEAD:
        return lx.rules.mask
    if state == S_WORD:
        end_word(lx, -1)
    elif state == S_UAMP:
        text_token(lx, T_WORD, lx.word, 1)
        token(lx, T_OTHER)
    elif state == S_NAME_QUOTE:
        end_name(lx)
    elif state == S_DASH or state == S_SLASH or state == S_GAP_DASH or state == S_DOLLAR:
        token(lx, T_OTHER)
    elif state == S_TAG:                     # `$listen`, as in the middle of a text
        token(lx, T_OTHER)
        end_word(lx, -1)
    elif state in (S_COMMENT, S_COMMENT_STAR, S_COMMENT_SLASH, S_STRING, S_ESCAPES, S_BACKSLASH, S_NAME,
                   S_QUOTED, S_QUOTED_TAG):
        lx.rules.mask &= ~LEX_EMPTY
        rules_pin(&lx.rules, PIN_UNREADABLE)
    rules_end(&lx.rules)
    lx.state = S_DEAD
    return lx.rules.mask


cdef const uint8_t *lex_database(Lex *lx, Py_ssize_t *n) noexcept nogil:
    n[0] = lx.rules.name_len
    return lx.rules.name


def scan(bytes text not None, std_strings=True, ascii_safe=True, cuts=(), dialect=POSTGRESQL):
    """(mask, database) of a text fed in pieces, split at `cuts`. Each is a copy that ends where its memory ends."""
    cdef Lex lx
    cdef Py_ssize_t n, start = 0
    cdef uint8_t *piece
    cdef uint64_t mask
    lex_start(&lx, dialect, std_strings, ascii_safe)
    for stop in [*sorted(cuts), len(text)]:
        n = min(max(stop, start), len(text)) - start
        piece = <uint8_t*>malloc(n if n else 1)
        if piece == NULL:
            raise MemoryError
        memcpy(piece, <const uint8_t*>text + start, n)
        lex_feed(&lx, piece, n)
        free(piece)
        start += n
    mask = lex_end(&lx)
    name = lex_database(&lx, &n)
    return mask, name[:n] if mask & (LEX_DROP_DATABASE | LEX_USE_DATABASE) else b""
