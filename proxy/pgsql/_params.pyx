"""What a server reports of itself (ParameterStatus), as interned sets: equal sets are one pointer, a borrow costs one compare.

Each client remembers the set it was told, each server the set it last reported. Where they differ at a borrow, the client
gets the ParameterStatus messages that differ before anything else (edge cases 6 and 44). Sans-IO; one table per relay thread.

A set is the concatenation of its ParameterStatus messages, sorted by name. All functions return NULL or -1 for bytes that
are not such messages, or when memory is exhausted.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

from proxy._wire cimport Reader, iobuf_free, iobuf_put, load_u32, read_cstr, reader, store_u32
from proxy.pgsql cimport _protocol as p

cdef bint _item(const uint8_t *at, const uint8_t *end, Item *item) noexcept nogil:
    """The message at `at`; False at the end or where it is malformed."""
    cdef Reader r
    cdef uint32_t length
    if end - at < 5 or at[0] != p.PARAMETER_STATUS:
        return False
    length = load_u32(at + 1)
    if length < 6 or length > 0xFFFFFF or end - at < <Py_ssize_t>length + 1:
        return False
    item.at = at
    item.size = <Py_ssize_t>length + 1
    r = reader(at + 5, length - 4)
    item.name = read_cstr(&r, &item.name_size)
    item.value = read_cstr(&r, &item.value_size)
    return r.ok and r.at == r.end


cdef int params_order(const Item *a, const Item *b) noexcept nogil:
    cdef int c = memcmp(a.name, b.name, min(a.name_size, b.name_size))
    if c:
        return c
    return -1 if a.name_size < b.name_size else (1 if a.name_size > b.name_size else 0)


cdef bint _is(const uint8_t *text, Py_ssize_t n, const char *word, Py_ssize_t word_size) noexcept nogil:
    return n == word_size and memcmp(text, word, n) == 0


cdef bint _ascii_safe(const uint8_t *value, Py_ssize_t n) noexcept nogil:
    """False for the client encodings whose multi-byte characters contain bytes below 0x80 (PostgreSQL manual, table 24.3)."""
    return not (
        _is(value, n, b"SJIS", 4) or _is(value, n, b"SHIFT_JIS_2004", 14) or _is(value, n, b"BIG5", 4)
        or _is(value, n, b"GBK", 3) or _is(value, n, b"UHC", 3) or _is(value, n, b"GB18030", 7) or _is(value, n, b"JOHAB", 5)
    )


cdef void params_init(ParamTable *t) noexcept nogil:
    cdef int i
    for i in range(256):
        t.buckets[i] = NULL
    t.count = 0


cdef ParamSet *params_intern(ParamTable *t, const uint8_t *data, Py_ssize_t n) noexcept nogil:
    """The set with exactly these messages; one reference is the caller's."""
    cdef uint64_t h = 0xCBF29CE484222325   # FNV-1a
    cdef Py_ssize_t i
    cdef ParamSet *s
    cdef Item item
    cdef const uint8_t *at = data
    for i in range(n):
        h = (h ^ data[i]) * <uint64_t>0x100000001B3
    s = t.buckets[h & 255]
    while s != NULL:
        if s.hash == h and s.size == <uint32_t>n and memcmp(&s.data[0], data, n) == 0:
            s.refs += 1
            return s
        s = s.next
    s = <ParamSet*>malloc(sizeof(ParamSet) + n)
    if s == NULL:
        return NULL
    s.hash = h
    s.refs = 1
    s.size = <uint32_t>n
    s.std_strings = 1
    s.ascii_safe = 1
    s.read_only = 0
    if n:
        memcpy(&s.data[0], data, n)
    while _item(at, data + n, &item):
        if _is(item.name, item.name_size, b"standard_conforming_strings", 27):
            s.std_strings = not _is(item.value, item.value_size, b"off", 3)
        elif _is(item.name, item.name_size, b"client_encoding", 15):
            s.ascii_safe = _ascii_safe(item.value, item.value_size)
        elif (
            _is(item.name, item.name_size, b"in_hot_standby", 14)
            or _is(item.name, item.name_size, b"default_transaction_read_only", 29)
        ):
            s.read_only |= _is(item.value, item.value_size, b"on", 2)
        at += item.size
    if at != data + n:
        free(s)
        return NULL
    s.next = t.buckets[h & 255]
    t.buckets[h & 255] = s
    t.count += 1
    return s


cdef void params_drop(ParamTable *t, ParamSet *s) noexcept nogil:
    cdef ParamSet **link
    if s == NULL:
        return
    s.refs -= 1
    if s.refs:
        return
    link = &t.buckets[s.hash & 255]
    while link[0] != s:
        link = &link[0].next
    link[0] = s.next
    t.count -= 1
    free(s)


cdef ParamSet *params_with(ParamTable *t, ParamSet *old, const uint8_t *message, Py_ssize_t n) noexcept nogil:
    """`old` with one message put in or replaced. Takes over the caller's reference to `old`, unless it returns NULL."""
    cdef IoBuf merged
    cdef Item fresh, item
    cdef const uint8_t *at = NULL
    cdef const uint8_t *end = NULL
    cdef bint placed = False
    cdef int order
    cdef ParamSet *s
    merged.data = NULL
    merged.pos = merged.end = merged.cap = 0
    if not _item(message, message + n, &fresh) or fresh.size != n:
        return NULL
    if old != NULL:
        at = &old.data[0]
        end = at + old.size
    while at != NULL and _item(at, end, &item):
        order = params_order(&fresh, &item)
        if order <= 0 and not placed:
            placed = True
            if iobuf_put(&merged, fresh.at, fresh.size) < 0:
                iobuf_free(&merged)
                return NULL
        if order != 0 and iobuf_put(&merged, item.at, item.size) < 0:
            iobuf_free(&merged)
            return NULL
        at += item.size
    if not placed and iobuf_put(&merged, fresh.at, fresh.size) < 0:
        iobuf_free(&merged)
        return NULL
    s = params_intern(t, merged.data, merged.end)
    iobuf_free(&merged)
    if s != NULL:
        params_drop(t, old)
    return s


cdef ParamSet *params_put(
    ParamTable *t, ParamSet *old, const uint8_t *name, Py_ssize_t n, const uint8_t *value, Py_ssize_t m,
) noexcept nogil:
    """`old` with `name` at `value`, neither of which has a NUL. As params_with."""
    cdef IoBuf message
    cdef uint8_t head[5]
    cdef ParamSet *s = NULL
    message.data = NULL
    message.pos = message.end = message.cap = 0
    head[0] = p.PARAMETER_STATUS
    store_u32(&head[1], <uint32_t>(n + m) + 6)
    if (
        iobuf_put(&message, &head[0], 5) == 0 and iobuf_put(&message, name, n) == 0 and iobuf_put(&message, b"", 1) == 0
        and iobuf_put(&message, value, m) == 0 and iobuf_put(&message, b"", 1) == 0
    ):
        s = params_with(t, old, message.data, message.end)
    iobuf_free(&message)
    return s


cdef ParamSet *params_without(ParamTable *t, ParamSet *old, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    """`old` without `name`; NULL as a set is the empty one. As params_with, but NULL may be the result; see `params_get`."""
    cdef IoBuf left
    cdef Item item
    cdef Py_ssize_t at = 0
    cdef ParamSet *s
    if old == NULL or params_get(old, <const char*>name, n, &at) == NULL:
        return old
    left.data = NULL
    left.pos = left.end = left.cap = 0
    at = 0
    while params_next(old, &at, &item):
        if not _is(item.name, item.name_size, <const char*>name, n) and iobuf_put(&left, item.at, item.size) < 0:
            iobuf_free(&left)
            return old
    s = NULL if left.end == 0 else params_intern(t, left.data, left.end)
    iobuf_free(&left)
    params_drop(t, old)
    return s


cdef const uint8_t *params_get(const ParamSet *s, const char *name, Py_ssize_t n, Py_ssize_t *size) noexcept nogil:
    """The value of `name`, or NULL if it is not there."""
    cdef Item item
    cdef Py_ssize_t at = 0
    size[0] = 0
    while params_next(s, &at, &item):
        if _is(item.name, item.name_size, name, n):
            size[0] = item.value_size
            return item.value
    return NULL


cdef bint params_next(const ParamSet *s, Py_ssize_t *at, Item *item) noexcept nogil:
    """The item at `at`, which moves on; False at the end."""
    if s == NULL or not _item(&s.data[0] + at[0], &s.data[0] + s.size, item):
        return False
    at[0] += item.size
    return True


cdef int params_difference(const ParamSet *told, const ParamSet *now, IoBuf *out) noexcept nogil:
    """Appends to `out` the messages of `now` that `told` lacks or has with another value. 0, or -1."""
    cdef Item was, item
    cdef const uint8_t *at
    cdef const uint8_t *old
    cdef const uint8_t *old_end
    cdef int order = 1
    if now == NULL or now == told:
        return 0
    at = &now.data[0]
    old = NULL if told == NULL else &told.data[0]
    old_end = NULL if told == NULL else old + told.size
    while _item(at, &now.data[0] + now.size, &item):
        order = 1
        while old != NULL and _item(old, old_end, &was):
            order = params_order(&was, &item)
            if order >= 0:
                break
            old += was.size
        else:
            order = 1
        if order != 0 or was.size != item.size or memcmp(was.at, item.at, item.size) != 0:
            if iobuf_put(out, item.at, item.size) < 0:
                return -1
        at += item.size
    return 0


cdef class ParamsDoor:
    """The table for tests: sets are numbers of this door's own."""
    cdef ParamTable t
    cdef list held               # addresses

    def __cinit__(self):
        params_init(&self.t)
        self.held = []

    def __dealloc__(self):
        for address in self.held:
            params_drop(&self.t, <ParamSet*><size_t>address)

    cdef object _keep(self, ParamSet *s):
        if s == NULL:
            raise ValueError("not a sequence of ParameterStatus messages")
        self.held.append(<size_t>s)
        return <size_t>s

    def intern(self, bytes data not None):
        return self._keep(params_intern(&self.t, <const uint8_t*>data, len(data)))

    def change(self, size_t s, bytes message not None):
        """`s` with one message changed; `s` itself is given up."""
        cdef ParamSet *made = params_with(&self.t, <ParamSet*>s, <const uint8_t*>message, len(message))
        if made != NULL:
            self.held.remove(s)
        return self._keep(made)

    def drop(self, size_t s):
        self.held.remove(s)
        params_drop(&self.t, <ParamSet*>s)

    def data(self, size_t s):
        return (<const uint8_t*>&(<ParamSet*>s).data[0])[:(<ParamSet*>s).size]

    def flags(self, size_t s):
        return bool((<ParamSet*>s).std_strings), bool((<ParamSet*>s).ascii_safe)

    def difference(self, size_t told, size_t now):
        cdef IoBuf out
        out.data = NULL
        out.pos = out.end = out.cap = 0
        params_difference(<ParamSet*>told, <ParamSet*>now, &out)
        made = (<const uint8_t*>out.data)[:out.end] if out.end else b""
        iobuf_free(&out)
        return made

    @property
    def count(self): return self.t.count
