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
    OWED_EFFECT = 0x80000000     # of a Query or Execute: what it runs changes the virtual session
    OWED_REPLAY = 0x80000001     # of a Query of ours: settings for what comes behind it
    OWED_ASK = 0x80000002        # of a Query of ours: its one row is read
    OWED_AUDIT = 0x80000003      # … about what is left of the session
    OWED_REFUSED = 0x80000100    # of a Query or Bind that the server will refuse, + PinReason: the error is in our words
    OWED_OWN = 0x40000000        # of a Parse or Close: the client's own, not one of ours in front of a Bind
    OWED_UNNAMED = 0x20000000    # of a Parse: the unnamed statement
    OWED_GONE = 0x10000000       # of a Close of ours: if it is skipped, the statement is still there
    OWED_DUPLICATE = 0x08000000  # of a Parse: of a name that is taken, sent so that the server says so
    OWED_SHAPE = 0x18000000      # of a Describe: how the rows of the statement look is of interest
    OWED_STATEMENT = 0x07FFFFFF  # the statement's number

cdef struct Owed:
    uint64_t *ring               # kind and flags in the low byte, an argument in the upper half
    uint32_t head
    uint32_t count
    uint32_t cap                 # a power of two
    uint64_t small[16]
    uint32_t *lost               # arguments of requests that failed or were skipped, since somebody last looked
    uint32_t n_lost
    uint32_t answered            # argument of the request that this reply belongs to; 0: none, or it has none
    uint8_t skipping             # an extended-protocol error: the server ignores everything up to a Sync not yet sent
    uint8_t copy                 # CopyState of the request at the head
    uint8_t orphaned             # the Query skipped by the last error is behind a Parse of ours: no Sync of the client's will come
    uint8_t in_doubt             # how many ReadyForQuery are to come is not known: never reuse the server

cdef void owed_init(Owed *o) noexcept nogil
cdef void owed_free(Owed *o) noexcept nogil
cdef int owed_request(Owed *o, uint8_t entry, uint32_t argument) noexcept nogil
cdef Verdict owed_reply(Owed *o, uint8_t kind) noexcept nogil

cdef inline uint8_t owed_at(const Owed *o, uint32_t i) noexcept nogil:
    return <uint8_t>o.ring[(o.head + i) & (o.cap - 1)]

cdef inline uint32_t owed_argument(const Owed *o) noexcept nogil:
    """Of the request whose answer comes next."""
    return <uint32_t>(o.ring[o.head] >> 32) if o.count else 0

cdef inline bint owed_plain(const Owed *o) noexcept nogil:
    """A Query of the client's is being answered, of which nobody wants to know anything."""
    return o.count and o.ring[o.head] == OWED_QUERY and o.copy == COPY_NONE and not o.in_doubt

cdef inline bint owed_may_orphan(const Owed *o) noexcept nogil:
    """The Query sent last is behind a Parse of ours that has not been answered: see `orphaned`."""
    return o.count > 1 and owed_at(o, o.count - 1) == OWED_QUERY and owed_at(o, o.count - 2) == (OWED_PARSE | OWED_SWALLOW)

cdef inline uint32_t owed_count(const Owed *o) noexcept nogil:
    return o.count
