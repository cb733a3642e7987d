"""The fast lane of `_lex`: PostgreSQL's SQL behind the first words of a boring statement, 64 bytes at a time.

While `Rules.hot` is 0, a token does nothing unless it is a notable word, a parenthesis or `;`. So a block of text is turned into
words of 64 bits, a bit per byte, and only the places are looked at where something begins that may matter. Whatever is not
plainly understood is left to the scanner, which begins again at that token: the answer is the same.

Numbers and parameters need no understanding: `1.5` is passed over as `1`, a point and `5`, and where a letter stands right
behind a digit, which may be an exponent, each number is looked at.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from proxy.sql._blocks cimport SqlMasks, clz, ctz, sql_masks, sql_masks_by_byte
from proxy.sql._chars cimport F_BLANK, F_DIGIT, F_IDENT, FLAGS, find, skip
from proxy.sql._rules cimport T_NAME, T_WORD, rules_notable, rules_token

cdef enum Bounds_:
    BLOCK = 64
    PIECE = 16                   # of a block, and bytes that are worth one
    SHORTEST = 4                 # notable word

cdef const uint32_t *NOTABLE = rules_notable()


cdef int _agree() except -1:
    """The letters above are those of the rules, and no notable word is too short."""
    cdef uint8_t[BLOCK] block
    cdef SqlMasks m
    cdef int n, letter
    for n in range(BLOCK):
        for letter in range(32):
            memset(&block[0], 0x60 + letter, BLOCK)
            sql_masks(&block[0], &m)
            if (NOTABLE[n] >> letter) & 1 and (n < SHORTEST or m.first == 0):
                raise AssertionError(f"_boring does not look at words of {n} bytes with {chr(0x60 + letter)}")
    return 0


_agree()


cdef inline Py_ssize_t _prefixed(const uint8_t *p, Py_ssize_t from_, Py_ssize_t at) noexcept nogil:
    """The one letter in front of the quote at `at` that may belong to it (e'…', u&"…"), or -1. `from_`: a token begins there."""
    at -= 1
    if at >= from_ and p[at] == 0x26:
        at -= 1
    if at >= from_ and FLAGS[p[at]] & F_IDENT and (at == from_ or not FLAGS[p[at - 1]] & F_IDENT):
        return at
    return -1


cdef inline Py_ssize_t _quoted(Rules *r, const uint8_t *p, Py_ssize_t i, Py_ssize_t n, bint std_strings) noexcept nogil:
    """Behind the string or name whose quote is at `i`; 0 if that is not plain, or not all there."""
    cdef uint8_t quote = p[i]
    cdef Py_ssize_t start = i + 1
    if quote == 0x27 and not std_strings:
        return 0
    i = find(p, start, n, quote)
    if i + 1 >= n or p[i + 1] == quote:
        return 0
    if quote == 0x22:
        if i - start < BLOCK and i > start and (NOTABLE[i - start] >> (p[start] & 31)) & 1:
            rules_token(r, T_NAME, p + start, i - start)
        return i + 1
    i = skip(p, i + 1, n, F_BLANK)
    if i == n or p[i] == 0x27 or p[i] == 0x2D:           # it may go on in the next line, also behind a comment
        return 0
    return i


cdef Py_ssize_t boring_stretch(Rules *r, const uint8_t *p, Py_ssize_t i, Py_ssize_t n, bint std_strings) noexcept nogil:
    """From the begin of a token at `i`, while `hot` is 0: the begin of the first one that somebody else has to look at."""
    cdef uint8_t[BLOCK] padded
    cdef SqlMasks m
    cdef uint64_t starts, events, dollars
    cdef Py_ssize_t have, next_
    cdef Py_ssize_t begin = i
    cdef int at, stop
    cdef uint8_t c
    while n - i >= PIECE:
        have = n - i
        if have >= BLOCK:
            have = BLOCK
            sql_masks(p + i, &m)
        else:
            memset(&padded[0], 0x20, BLOCK)
            for at in range(<int>(have - 1) // <int>PIECE):
                memcpy(&padded[at * <int>PIECE], p + i + at * <int>PIECE, PIECE)
            memcpy(&padded[have - PIECE], p + n - PIECE, PIECE)
            sql_masks(&padded[0], &m)
        next_ = i + have
        starts = m.ident & ~(m.ident << 1)
        dollars = m.means & m.ident
        events = m.means ^ dollars | (starts & m.first & m.ident >> 1 & m.ident >> 2 & m.ident >> 3)
        if m.digit << 1 & m.ident & ~m.digit:            # a letter behind a digit: 1e5, a1b
            events |= starts & (m.digit | dollars)
        else:
            events |= starts & dollars & ~(m.digit >> 1)        # $tag$
        if m.ident >> (have - 1):
            events |= (<uint64_t>1 << 63) >> clz(starts)         # reaches over the end of what is here
        while events:
            at = ctz(events)
            c = p[i + at]
            if m.ident >> at & 1:
                # what has been shifted in reads as the end of the word
                stop = at + ctz(~(m.ident >> at)) if ~(m.ident >> at) else BLOCK
                if stop >= have:
                    if have < BLOCK or at == 0:
                        return i + at
                    next_ = skip(p, i + BLOCK, n, F_IDENT)
                    if next_ == n:
                        return i + at
                    # unless it may matter, or belong to a quote, it has been passed over
                    if (m.first | m.digit | dollars) >> at & 1 or next_ - i == at + 1:
                        next_ = i + at
                    break
                if FLAGS[c] & F_DIGIT or c == 0x24:
                    if skip(p, i + at + 1, i + stop, F_DIGIT) < i + stop or (c == 0x24 and stop == at + 1):
                        return i + at
                elif (NOTABLE[stop - at] >> (c & 31)) & 1:
                    rules_token(r, T_WORD, p + i + at, stop - at)
                    if r.hot:
                        return i + stop
                events &= events - 1
            elif c >> 1 == 0x14:                         # ( )
                r.depth += 1 if c == 0x28 else -1 if r.depth else 0
                events &= events - 1
            elif c == 0x22 or c == 0x27:
                next_ = _prefixed(p, begin, i + at)
                if next_ >= 0:
                    return next_
                next_ = _quoted(r, p, i + at, n, std_strings)
                if next_ == 0:
                    return i + at
                if r.hot:
                    return next_
                if next_ - i >= have:
                    break
                events &= ~<uint64_t>0 << (next_ - i)
                next_ = i + have
            elif c == 0x3B:
                if r.depth == 0:
                    return i + at
                events &= events - 1
            else:
                if i + at + 1 == n or p[i + at + 1] == 0x2D or p[i + at + 1] == 0x2A:
                    return i + at                        # a comment, or nearly
                events &= events - 1
        i = next_
    return i


def masks(bytes block not None):
    """(ident, means, digit, first) of 64 bytes, as the machine's own instructions see them and byte by byte, for tests."""
    cdef SqlMasks m, n
    if len(block) != BLOCK:
        raise ValueError("64 bytes")
    sql_masks(<const uint8_t*>block, &m)
    sql_masks_by_byte(<const uint8_t*>block, &n)
    return tuple((each.ident, each.means, each.digit, each.first) for each in (m, n))
