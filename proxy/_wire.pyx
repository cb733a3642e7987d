"""Bytes with a known end (see `_wire.pxd`); the classes below are the doors through which tests reach the inline code."""


cdef class ReaderDoor:
    """`Reader` for tests: `ReaderDoor(b"...").u32()`; `ok` turns False at the first field that is not all there."""
    cdef bytes data
    cdef Reader r

    def __init__(self, bytes data not None):
        self.data = data
        self.r = reader(<const uint8_t*>data, len(data))

    @property
    def ok(self): return bool(self.r.ok)

    @property
    def left(self): return self.r.end - self.r.at

    def u8(self): return read_u8(&self.r)

    def u16(self): return read_u16(&self.r)

    def u32(self): return read_u32(&self.r)

    def cstr(self):
        cdef Py_ssize_t n
        cdef const uint8_t *p = read_cstr(&self.r, &n)
        return None if p == NULL else p[:n]

    def take(self, Py_ssize_t n):
        cdef const uint8_t *p = read_bytes(&self.r, n)
        return None if p == NULL else p[:n]


cdef class IoBufDoor:
    """`IoBuf` for tests."""
    cdef IoBuf b

    def __dealloc__(self):
        iobuf_free(&self.b)

    def put(self, bytes data not None):
        return iobuf_put(&self.b, <const uint8_t*>data, len(data))

    def take(self, Py_ssize_t n):
        n = min(n, iobuf_len(&self.b))
        out = (<const uint8_t*>self.b.data + self.b.pos)[:n] if n else b""
        iobuf_take(&self.b, n)
        return out

    def __len__(self): return iobuf_len(&self.b)

    @property
    def capacity(self): return self.b.cap
