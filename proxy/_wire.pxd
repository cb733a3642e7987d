# Bytes with a known end: the only pointer arithmetic on foreign bytes. Everything here is inline and nogil; a reader asks
# for the length before it moves, so a lying length ends as `ok = 0`, never as a stray read.

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t, int32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memchr

cpdef enum Step:
    FORWARD = 0        # n bytes may go on unchanged
    SWALLOW = 1        # n bytes end here; the other side must not see them
    REPLACE = 2        # n bytes end here; our own go on instead
    NEED_DATA = 3      # keep them, call again with more
    VIOLATION = 4      # the peer broke the protocol

# ---------------------------------------------------------------- View: a window on bytes of another

cdef struct View:
    const uint8_t *at
    const uint8_t *end

cdef inline Py_ssize_t view_len(const View *v) noexcept nogil:
    return v.end - v.at

cdef inline uint32_t load_u32(const uint8_t *p) noexcept nogil:
    """Big-endian; the caller has checked four bytes."""
    return (<uint32_t>p[0] << 24) | (<uint32_t>p[1] << 16) | (<uint32_t>p[2] << 8) | p[3]

cdef inline void store_u32(uint8_t *p, uint32_t x) noexcept nogil:
    p[0] = <uint8_t>(x >> 24)
    p[1] = <uint8_t>(x >> 16)
    p[2] = <uint8_t>(x >> 8)
    p[3] = <uint8_t>x

# ---------------------------------------------------------------- Reader: takes fields, remembers the first failure

cdef struct Reader:
    const uint8_t *at
    const uint8_t *end
    bint ok

cdef inline Reader reader(const uint8_t *p, Py_ssize_t n) noexcept nogil:
    cdef Reader r
    r.at = p
    r.end = p + n
    r.ok = True
    return r

cdef inline uint8_t read_u8(Reader *r) noexcept nogil:
    if r.end - r.at < 1:
        r.ok = False
        return 0
    r.at += 1
    return (r.at - 1)[0]

cdef inline uint16_t read_u16(Reader *r) noexcept nogil:
    if r.end - r.at < 2:
        r.ok = False
        return 0
    r.at += 2
    return <uint16_t>((<uint16_t>(r.at - 2)[0] << 8) | (r.at - 1)[0])

cdef inline uint32_t read_u32(Reader *r) noexcept nogil:
    if r.end - r.at < 4:
        r.ok = False
        return 0
    r.at += 4
    return load_u32(r.at - 4)

cdef inline const uint8_t *read_bytes(Reader *r, Py_ssize_t n) noexcept nogil:
    """`n` bytes, or NULL."""
    if n < 0 or r.end - r.at < n:
        r.ok = False
        return NULL
    r.at += n
    return r.at - n

cdef inline const uint8_t *read_cstr(Reader *r, Py_ssize_t *n) noexcept nogil:
    """A NUL-terminated string; `n` is its length without the NUL. NULL if no NUL is there."""
    cdef const uint8_t *start = r.at
    cdef const uint8_t *stop
    n[0] = 0
    if r.end <= r.at:
        r.ok = False
        return NULL
    stop = <const uint8_t*>memchr(r.at, 0, r.end - r.at)
    if stop == NULL:
        r.ok = False
        return NULL
    n[0] = stop - start
    r.at = stop + 1
    return start

# ---------------------------------------------------------------- IoBuf: bytes we own, taken when needed, freed when empty

cdef struct IoBuf:
    uint8_t *data
    uint32_t pos         # next byte to take
    uint32_t end         # one behind the last byte
    uint32_t cap

cdef inline uint32_t iobuf_len(const IoBuf *b) noexcept nogil:
    return b.end - b.pos

cdef inline void iobuf_free(IoBuf *b) noexcept nogil:
    free(b.data)
    b.data = NULL
    b.pos = 0
    b.end = 0
    b.cap = 0

cdef inline int iobuf_reserve(IoBuf *b, Py_ssize_t n) noexcept nogil:
    """Room for `n` more bytes; 0, or -1 when memory (or the 1 GiB bound) is exhausted."""
    cdef uint32_t have = b.end - b.pos
    cdef size_t cap
    cdef uint8_t *data
    if n < 0 or <size_t>n + have > 0x40000000:
        return -1
    if b.cap - b.end >= <size_t>n:
        return 0
    if b.cap >= have + <size_t>n and b.pos >= have:
        memcpy(b.data, b.data + b.pos, have)      # regions are disjoint, see the condition
        b.pos = 0
        b.end = have
        return 0
    cap = 512
    while cap < have + <size_t>n:
        cap *= 2
    data = <uint8_t*>malloc(cap)
    if data == NULL:
        return -1
    if have:
        memcpy(data, b.data + b.pos, have)
    free(b.data)
    b.data = data
    b.pos = 0
    b.end = have
    b.cap = <uint32_t>cap
    return 0

cdef inline int iobuf_put(IoBuf *b, const uint8_t *p, Py_ssize_t n) noexcept nogil:
    """Append a copy of `n` bytes; 0, or -1."""
    if n == 0:
        return 0
    if iobuf_reserve(b, n) < 0:
        return -1
    memcpy(b.data + b.end, p, n)
    b.end += <uint32_t>n
    return 0

cdef inline void iobuf_take(IoBuf *b, Py_ssize_t n) noexcept nogil:
    """Drop `n` bytes from the front; memory goes back when nothing is left."""
    b.pos += <uint32_t>n
    if b.pos >= b.end:
        iobuf_free(b)
