# The replies a server owes, in order. See _owed.pyx for the rules.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cpdef enum OwedKind:
    OWED_NOTHING = 0
    OWED_QUERY = 1
    OWED_FUNCTION = 2
    OWED_SYNC = 3
    OWED_PARSE = 4
    OWED_BIND = 5
    OWED_DESCRIBE = 6
    OWED_EXECUTE = 7
    OWED_CLOSE = 8
    OWED_COPY_END = 9            # CopyDone or CopyFail: answers nothing, ends the span in which Sync is ignored
    OWED_KIND = 0x0F             # mask
    OWED_MAYBE = 0x40            # a Sync sent during copy-in: the server ignores it if it read it as part of the COPY
    OWED_SWALLOW = 0x80          # ours: the client must not see the answer

cpdef enum Verdict:
    REPLY_FORWARD = 0
    REPLY_SWALLOW = 1
    REPLY_VIOLATION = 2

cpdef enum CopyState:
    COPY_NONE = 0
    COPY_IN = 1
    COPY_OUT = 2
    COPY_BOTH = 3

cdef enum OwedArgument_:
    OWED_OWN = 0x40000000        # of a Parse: the client's own, not one of ours in front of a Bind
    OWED_UNNAMED = 0x20000000    # of a Parse: the unnamed statement
    OWED_GONE = 0x10000000       # of a Close of ours: if it is skipped, the statement is still there
    OWED_STATEMENT = 0x0FFFFFFF  # the statement's number

cdef struct Owed:
    uint64_t *ring               # kind and flags in the low byte, an argument in the upper half
    uint32_t head
    uint32_t count
    uint32_t cap                 # a power of two
    uint64_t small[16]
    uint32_t *lost               # arguments of the Parses that failed or were skipped, since somebody last looked
    uint32_t n_lost
    uint32_t answered            # argument of the Parse that this reply completes; 0 if it completes none
    uint8_t skipping             # an extended-protocol error: the server ignores everything up to a Sync not yet sent
    uint8_t copy                 # CopyState of the request at the head
    uint8_t in_doubt             # how many ReadyForQuery are to come is not known: never reuse the server

cdef void owed_init(Owed *o) noexcept nogil
cdef void owed_free(Owed *o) noexcept nogil
cdef int owed_request(Owed *o, uint8_t entry, uint32_t argument) noexcept nogil
cdef Verdict owed_reply(Owed *o, uint8_t kind) noexcept nogil

cdef inline uint8_t owed_at(const Owed *o, uint32_t i) noexcept nogil:
    return <uint8_t>o.ring[(o.head + i) & (o.cap - 1)]

cdef inline uint32_t owed_count(const Owed *o) noexcept nogil:
    return o.count
