"""The replies a server owes: one entry per request sent, in order; a server that owes anything is never given back.

Rules, from PostgreSQL's `postgres.c` and the manual's "Message Flow" (54.2):

* `Query` and `FunctionCall` end with ReadyForQuery, whatever happens in between; so does `Sync`.
* `Parse`, `Bind`, `Describe`, `Execute`, `Close` end with one message of their own. `Flush` is owed nothing.
* An error while one of those five is at the head: the server ignores everything up to the next `Sync`, so every entry
  before it falls away, a `Query` or `FunctionCall` included. If that Sync has not been sent yet, `skipping` remembers it.
* During copy-in the server ignores `Sync` and `Flush` (libpq relies on it). A Sync sent between the COPY's request and its
  CopyDone is therefore only *maybe* answered: not at all if the COPY succeeds; if the COPY fails, that depends on how far
  the server had read, which nobody outside can know: `in_doubt`.
* A request may carry an argument (a Parse the number of its statement), so that whoever keeps books of it learns whether it
  was `answered`, or `lost` because it failed or was skipped.
* NoticeResponse, ParameterStatus and NotificationResponse may come at any time and belong to no request.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc


cdef void owed_init(Owed *o) noexcept nogil:
    o.ring = &o.small[0]
    o.head = 0
    o.count = 0
    o.cap = 16
    o.lost = NULL
    o.n_lost = 0
    o.answered = 0
    o.skipping = 0
    o.copy = COPY_NONE
    o.orphaned = 0
    o.in_doubt = 0


cdef void owed_free(Owed *o) noexcept nogil:
    if o.ring != &o.small[0]:
        free(o.ring)
    free(o.lost)
    owed_init(o)


cdef void _pop(Owed *o) noexcept nogil:
    o.head = (o.head + 1) & (o.cap - 1)
    o.count -= 1
    if o.count == 0 and o.ring != &o.small[0]:
        free(o.ring)
        o.ring = &o.small[0]
        o.cap = 16
        o.head = 0


cdef inline void _drop_copy_ends(Owed *o) noexcept nogil:
    """A CopyDone at the head answers nothing: the COPY it ended is over."""
    while o.count and (owed_at(o, 0) & OWED_KIND) == OWED_COPY_END:
        _pop(o)


cdef void _answered(Owed *o) noexcept nogil:
    """The request at the head is done, and with it every CopyDone right behind it: those answer nothing."""
    _pop(o)
    _drop_copy_ends(o)


cdef void _lose(Owed *o, uint64_t entry) noexcept nogil:
    """The request will never be answered by anything of its own."""
    cdef uint32_t *lost
    if entry >> 32 == 0:
        return
    lost = <uint32_t*>realloc(o.lost, (o.n_lost + 1) * sizeof(uint32_t))
    if lost == NULL:
        o.in_doubt = 1           # the books would be wrong
        return
    lost[o.n_lost] = <uint32_t>(entry >> 32)
    o.lost = lost
    o.n_lost += 1


cdef int _push(Owed *o, uint64_t entry) noexcept nogil:
    cdef uint32_t i, cap
    cdef uint64_t *ring
    if o.count == o.cap:
        if o.cap >= 1 << 24:     # sixteen million unanswered requests: no honest client
            return -1
        cap = o.cap * 2
        ring = <uint64_t*>malloc(cap * sizeof(uint64_t))
        if ring == NULL:
            return -1
        for i in range(o.count):
            ring[i] = o.ring[(o.head + i) & (o.cap - 1)]
        if o.ring != &o.small[0]:
            free(o.ring)
        o.ring = ring
        o.head = 0
        o.cap = cap
    o.ring[(o.head + o.count) & (o.cap - 1)] = entry
    o.count += 1
    return 0


cdef int owed_request(Owed *o, uint8_t entry, uint32_t argument) noexcept nogil:
    """A request goes to the server. `argument`: see OwedArgument_. 0, or -1 if the queue cannot grow."""
    cdef uint8_t kind = entry & OWED_KIND
    cdef uint32_t i
    if o.in_doubt or kind == OWED_NOTHING:
        return 0
    if o.skipping:
        if kind != OWED_SYNC:
            _lose(o, <uint64_t>argument << 32 | kind)
            return 0
        o.skipping = 0
    if kind == OWED_COPY_END and o.count == 0:
        return 0
    if o.copy == COPY_IN and kind != OWED_COPY_END:
        for i in range(o.count):
            if (owed_at(o, i) & OWED_KIND) == OWED_COPY_END:
                break
        else:
            if kind == OWED_SYNC:
                entry |= OWED_MAYBE
            else:
                o.in_doubt = 1   # a request inside a copy stream: the server fails the COPY, then gives the connection up
    return _push(o, <uint64_t>argument << 32 | entry)


cdef void _copy_in_begins(Owed *o) noexcept nogil:
    """Syncs already sent behind the COPY's request will be read as part of the copy stream."""
    cdef uint32_t i
    cdef uint8_t kind
    o.copy = COPY_IN
    for i in range(1, o.count):
        kind = owed_at(o, i) & OWED_KIND
        if kind == OWED_COPY_END:
            return
        if kind == OWED_SYNC:
            o.ring[(o.head + i) & (o.cap - 1)] |= OWED_MAYBE
        else:
            o.in_doubt = 1       # as in owed_request
            return


cdef void _copy_in_succeeded(Owed *o) noexcept nogil:
    """CommandComplete of a COPY FROM STDIN: the Syncs before its CopyDone were ignored. The head itself stays."""
    cdef uint64_t head = o.ring[o.head]
    cdef uint8_t kind
    o.copy = COPY_NONE
    _pop(o)
    while o.count:
        kind = owed_at(o, 0)
        if not kind & OWED_MAYBE and (kind & OWED_KIND) != OWED_COPY_END:
            break
        _pop(o)
        if (kind & OWED_KIND) == OWED_COPY_END:
            break
    # put the head back in front: there is room, an entry has just left
    o.head = (o.head - 1) & (o.cap - 1)
    o.ring[o.head] = head
    o.count += 1


cdef Verdict _error(Owed *o) noexcept nogil:
    cdef uint8_t kind
    cdef uint32_t i
    cdef Verdict verdict = REPLY_FORWARD
    _drop_copy_ends(o)
    if o.count == 0:
        return REPLY_FORWARD     # asynchronous, e.g. FATAL 57P01; the connection ends behind it
    o.answered = owed_argument(o)
    kind = owed_at(o, 0)
    # the failure of a Parse of ours in front of a Bind is the Bind's: the client gets it in its place
    if kind & OWED_SWALLOW and (kind & OWED_KIND) != OWED_PARSE:
        verdict = REPLY_SWALLOW
    if o.copy == COPY_IN:
        for i in range(1, o.count):
            if owed_at(o, i) & OWED_MAYBE:
                o.in_doubt = 1
                break
            if (owed_at(o, i) & OWED_KIND) == OWED_COPY_END:
                break
    o.copy = COPY_NONE
    o.orphaned = kind == (OWED_PARSE | OWED_SWALLOW) and o.count > 1 and owed_at(o, 1) == OWED_QUERY
    kind &= OWED_KIND
    if kind == OWED_QUERY or kind == OWED_FUNCTION or kind == OWED_SYNC:
        return verdict           # its own ReadyForQuery follows
    while o.count and (owed_at(o, 0) & OWED_KIND) != OWED_SYNC:
        _lose(o, o.ring[o.head])
        _pop(o)
    if o.count == 0:
        o.skipping = 1
    return verdict


cdef enum Act:                   # what a message is to the request at the head
    ACT_VIOLATION = 0            # not its answer, nor a part of it
    ACT_ANYTIME                  # nobody's
    ACT_ERROR
    ACT_PART                     # more will come
    ACT_END                      # its last
    ACT_READY
    ACT_COMPLETE
    ACT_COPY_IN
    ACT_COPY_OUT
    ACT_COPY_BOTH
    ACT_COPY_DATA

cdef uint8_t[16][256] ACTS       # by OwedKind (OWED_NOTHING: no request) and message type


cdef int _fill_acts() except -1:
    anything = {"N": ACT_ANYTIME, "S": ACT_ANYTIME, "A": ACT_ANYTIME, "E": ACT_ERROR}
    runs = {
        "D": ACT_PART, "C": ACT_COMPLETE, "I": ACT_COMPLETE,
        "G": ACT_COPY_IN, "H": ACT_COPY_OUT, "W": ACT_COPY_BOTH, "d": ACT_COPY_DATA, "c": ACT_COPY_DATA,
    }
    requests = {
        OWED_NOTHING: {},
        OWED_QUERY: runs | {"T": ACT_PART, "Z": ACT_READY},
        OWED_FUNCTION: {"V": ACT_PART, "Z": ACT_READY},
        OWED_SYNC: {"Z": ACT_READY},
        OWED_PARSE: {"1": ACT_END},
        OWED_BIND: {"2": ACT_END},
        OWED_DESCRIBE: {"t": ACT_PART, "T": ACT_END, "n": ACT_END},
        OWED_EXECUTE: runs | {"s": ACT_END},
        OWED_CLOSE: {"3": ACT_END},
        OWED_COPY_END: {},
    }
    for request, acts in requests.items():
        for kind, act in (anything | acts).items():
            ACTS[<int>request][ord(kind)] = act
    return 0


_fill_acts()


cdef Verdict owed_reply(Owed *o, uint8_t kind) noexcept nogil:
    """A message of type `kind` came from the server: whose is it, and is the request at the head thereby answered?"""
    cdef uint8_t head, act = ACTS[<int>OWED_NOTHING][kind]
    o.answered = 0
    if act == ACT_ANYTIME or o.in_doubt:
        return REPLY_FORWARD
    if act == ACT_ERROR:
        return _error(o)
    _drop_copy_ends(o)
    if o.count == 0:
        return REPLY_VIOLATION   # an answer nobody asked for
    head = owed_at(o, 0)
    o.answered = owed_argument(o)
    act = ACTS[head & OWED_KIND][kind]
    if act == ACT_VIOLATION:
        return REPLY_VIOLATION
    if act == ACT_END:
        _answered(o)
    elif act == ACT_READY:
        o.copy = COPY_NONE
        _answered(o)
    elif act == ACT_COMPLETE:
        if o.copy == COPY_IN:
            _copy_in_succeeded(o)
        o.copy = COPY_NONE
        if (head & OWED_KIND) == OWED_EXECUTE:
            _answered(o)
    elif act == ACT_COPY_IN:
        _copy_in_begins(o)
    elif act == ACT_COPY_OUT:
        o.copy = COPY_OUT
    elif act == ACT_COPY_BOTH:
        o.copy = COPY_BOTH
    elif act == ACT_COPY_DATA and o.copy != COPY_OUT and o.copy != COPY_BOTH:
        return REPLY_VIOLATION
    return REPLY_SWALLOW if head & OWED_SWALLOW else REPLY_FORWARD


cdef class OwedDoor:
    """`Owed` for tests: `request(kind)`, `reply(b"Z")`, `entries`."""
    cdef Owed o

    def __cinit__(self):
        owed_init(&self.o)

    def __dealloc__(self):
        owed_free(&self.o)

    def request(self, int entry, uint32_t argument=0):
        if owed_request(&self.o, <uint8_t>entry, argument) < 0:
            raise MemoryError

    def reply(self, bytes kind not None):
        return Verdict(owed_reply(&self.o, kind[0]))

    @property
    def entries(self):
        return [owed_at(&self.o, i) for i in range(self.o.count)]

    @property
    def lost(self):
        """Arguments of the Parses lost since the last look."""
        out = [self.o.lost[i] for i in range(self.o.n_lost)]
        self.o.n_lost = 0
        return out

    @property
    def answered(self): return self.o.answered

    @property
    def copy(self): return CopyState(self.o.copy)

    @property
    def skipping(self): return bool(self.o.skipping)

    @property
    def in_doubt(self): return bool(self.o.in_doubt)
