# A statement's text without its literals. See `_digest.pyx`.

from libc.stdint cimport uint8_t, uint64_t

# Writes the digest to `out`, at most `cap` bytes, and returns how many. One that is longer is cut between two characters
# and ends in `...`; so does that of a text which cannot be read to its end.
cdef Py_ssize_t sql_digest(
    const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings, uint8_t *out, Py_ssize_t cap
) noexcept nogil
# Of the whole digest, however long: FNV-1a.
cdef uint64_t sql_digest_hash(const uint8_t *text, Py_ssize_t n, uint8_t dialect, bint std_strings) noexcept nogil
