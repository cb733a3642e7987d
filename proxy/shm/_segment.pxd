# The shared-memory segment: numbers, permits, wants and rings of all workers, mapped once before the fork. Everything
# here is inline and nogil, and safe against the death of any process at any instruction: there is no lock, only single
# words that change by one store or one compare-and-swap.
#
#   words     one array per (scope, worker, index); one writing thread per field (fields.py says which); readers sum
#   permits   per target, one uint32 per server connection: 0 = free, worker + 1 = held by that worker
#   wants     per (target, worker): since when its longest waiter wants a connection (ns); 0 = nothing wanted
#   rings     per (source, destination) worker: single producer, single consumer, 64 entries of at most 120 bytes

from libc.stdint cimport uint8_t, uint32_t, uint64_t, int64_t
from libc.string cimport memcpy
from proxy.shm._fields cimport (
    HISTOGRAM_BUCKETS, HISTOGRAM_SUB_BUCKETS, EP_WORDS, TG_WORDS, WK_HEARTBEAT, WK_WORDS,
)

cdef extern from *:
    """
    #ifndef PROXY_SHM_ATOMICS
    #define PROXY_SHM_ATOMICS
    #include <stdint.h>
    #include <unistd.h>
    static inline uint64_t atomic_get64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_RELAXED); }
    static inline void atomic_set64(uint64_t *p, uint64_t x) { __atomic_store_n(p, x, __ATOMIC_RELAXED); }
    static inline uint64_t atomic_acquire64(const uint64_t *p) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
    static inline void atomic_release64(uint64_t *p, uint64_t x) { __atomic_store_n(p, x, __ATOMIC_RELEASE); }
    static inline uint32_t atomic_get32(const uint32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void atomic_set32(uint32_t *p, uint32_t x) { __atomic_store_n(p, x, __ATOMIC_SEQ_CST); }
    static inline int atomic_swap32(uint32_t *p, uint32_t from, uint32_t to) {
        return __atomic_compare_exchange_n(p, &from, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    static inline void atomic_raise32(uint32_t *p, uint32_t to) {
        uint32_t was = __atomic_load_n(p, __ATOMIC_SEQ_CST);
        while (was < to && !__atomic_compare_exchange_n(p, &was, to, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
    }
    static inline int highest_bit64(uint64_t x) { return 63 - __builtin_clzll(x); }
    static inline void eventfd_raise(int fd) {
        /* A full counter (EAGAIN) is a raised one, and nothing else can fail: the result says nothing. */
        uint64_t one = 1;
        ssize_t done = write(fd, &one, sizeof one);
        (void)done;
    }
    #endif
    """
    uint64_t atomic_get64(const uint64_t *p) noexcept nogil
    void atomic_set64(uint64_t *p, uint64_t x) noexcept nogil
    uint64_t atomic_acquire64(const uint64_t *p) noexcept nogil
    void atomic_release64(uint64_t *p, uint64_t x) noexcept nogil
    uint32_t atomic_get32(const uint32_t *p) noexcept nogil
    void atomic_set32(uint32_t *p, uint32_t x) noexcept nogil
    bint atomic_swap32(uint32_t *p, uint32_t was, uint32_t to) noexcept nogil
    void atomic_raise32(uint32_t *p, uint32_t to) noexcept nogil
    int highest_bit64(uint64_t x) noexcept nogil
    void eventfd_raise(int fd) noexcept nogil

cdef enum:
    MAX_WORKERS = 128          # the low 7 bits of the process id in a client's BackendKeyData
    RING_ENTRIES = 64
    RING_ENTRY_BYTES = 128
    RING_PAYLOAD_BYTES = 120
    RING_BYTES = 128 + 64 * 128   # head and tail on lines of their own, entries

# Where things are. Copied by value into whoever uses it; the mapping itself belongs to the Segment object.
cdef struct Shm:
    uint8_t *base
    int workers
    int endpoints
    int targets
    int permits                # slots per target: the largest possible limit
    size_t worker_at           # byte offsets from base
    size_t endpoint_at
    size_t target_at
    size_t limit_at
    size_t want_at
    size_t permit_at
    size_t ring_at
    size_t bytes
    int wake[128]              # eventfd of each worker

# ---------------------------------------------------------------- words: one writer each

cdef inline uint64_t *shm_worker(const Shm *s, int worker) noexcept nogil:
    return <uint64_t*>(s.base + s.worker_at) + <size_t>worker * WK_WORDS

cdef inline uint64_t *shm_endpoint(const Shm *s, int worker, int endpoint) noexcept nogil:
    return <uint64_t*>(s.base + s.endpoint_at) + (<size_t>worker * s.endpoints + endpoint) * EP_WORDS

cdef inline uint64_t *shm_target(const Shm *s, int worker, int target) noexcept nogil:
    return <uint64_t*>(s.base + s.target_at) + (<size_t>worker * s.targets + target) * TG_WORDS

cdef inline void word_add(uint64_t *word, int64_t n) noexcept nogil:
    """Only by the field's one writer: a load and a store, no locked instruction."""
    atomic_set64(word, atomic_get64(word) + <uint64_t>n)

cdef inline int histogram_bucket(uint64_t value) noexcept nogil:
    cdef int high
    if value < HISTOGRAM_SUB_BUCKETS:
        return <int>value
    if value >= (<uint64_t>1 << 32):
        return HISTOGRAM_BUCKETS - 1
    high = highest_bit64(value)
    return (high - 2) * HISTOGRAM_SUB_BUCKETS + <int>((value >> (high - 3)) & (HISTOGRAM_SUB_BUCKETS - 1))

cdef inline void histogram_add(uint64_t *h, uint64_t value) noexcept nogil:
    """`value` in microseconds; beyond 71 minutes it counts in the last bucket (the sum stays exact)."""
    word_add(h, 1)
    word_add(h + 1, <int64_t>value)
    word_add(h + 2 + histogram_bucket(value), 1)

cdef inline void heartbeat(const Shm *s, int worker, uint64_t now_ns) noexcept nogil:
    """By the relay thread, once a turn."""
    atomic_set64(shm_worker(s, worker) + WK_HEARTBEAT, now_ns)

# ---------------------------------------------------------------- permits: the exact ceiling of server connections

cdef inline uint32_t *shm_permits(const Shm *s, int target) noexcept nogil:
    return <uint32_t*>(s.base + s.permit_at) + <size_t>target * s.permits

# two words per target, on a line of their own: the limit, and the highest limit there ever was
cdef inline uint32_t *shm_limit(const Shm *s, int target) noexcept nogil:
    return <uint32_t*>(s.base + s.limit_at + <size_t>target * 64)

cdef inline uint32_t limit_get(const Shm *s, int target) noexcept nogil:
    return atomic_get32(shm_limit(s, target))

cdef inline void limit_set(const Shm *s, int target, uint32_t limit) noexcept nogil:
    cdef uint32_t most = <uint32_t>s.permits
    if limit > most:
        limit = most
    # the mark first: whoever sees the new limit must not scan too few slots afterwards
    atomic_raise32(shm_limit(s, target) + 1, limit)
    atomic_set32(shm_limit(s, target), limit)

cdef inline int permits_used(const Shm *s, int target) noexcept nogil:
    """Held by all workers together. After the limit was lowered this may exceed it until connections are given up."""
    cdef uint32_t *slots = shm_permits(s, target)
    cdef uint32_t i, mark = atomic_get32(shm_limit(s, target) + 1)
    cdef int n = 0
    for i in range(mark):
        n += atomic_get32(slots + i) != 0
    return n

cdef inline int permits_held(const Shm *s, int target, int worker) noexcept nogil:
    """Held by one worker."""
    cdef uint32_t *slots = shm_permits(s, target)
    cdef uint32_t i, mark = atomic_get32(shm_limit(s, target) + 1)
    cdef int n = 0
    for i in range(mark):
        n += atomic_get32(slots + i) == <uint32_t>worker + 1
    return n

cdef inline void permit_give(const Shm *s, int target, int slot) noexcept nogil:
    atomic_set32(shm_permits(s, target) + slot, 0)

cdef inline int permit_take(const Shm *s, int target, int worker) noexcept nogil:
    """A slot to give back later, or -1: the limit is reached."""
    cdef uint32_t *slots = shm_permits(s, target)
    cdef uint32_t i, limit = limit_get(s, target)
    for i in range(limit):
        if atomic_get32(slots + i) == 0 and atomic_swap32(slots + i, 0, <uint32_t>worker + 1):
            # Slots beyond a lowered limit may still be held: then a free slot below it proves nothing, the sum does.
            # Two that exceed it at once both step back, which errs on the safe side.
            limit = limit_get(s, target)
            if (atomic_get32(shm_limit(s, target) + 1) > limit and <uint32_t>permits_used(s, target) > limit):
                permit_give(s, target, <int>i)
                return -1
            return <int>i
    return -1

# ---------------------------------------------------------------- wants: who waits for a permit, since when

cdef inline uint64_t *shm_want(const Shm *s, int target, int worker) noexcept nogil:
    # a line each: written by its worker at every wait, read by the others at every give
    return <uint64_t*>(s.base + s.want_at + (<size_t>target * s.workers + worker) * 64)

cdef inline void want_set(const Shm *s, int target, int worker, uint64_t since_ns) noexcept nogil:
    atomic_release64(shm_want(s, target, worker), since_ns)

cdef inline uint64_t want_get(const Shm *s, int target, int worker) noexcept nogil:
    return atomic_acquire64(shm_want(s, target, worker))

cdef inline int longest_want(const Shm *s, int target, int except_worker) noexcept nogil:
    """The worker whose waiter waits longest, or -1. `except_worker`: leave that one out (-1: none)."""
    cdef uint64_t since, first = 0
    cdef int worker, found = -1
    for worker in range(s.workers):
        since = want_get(s, target, worker)
        if since != 0 and worker != except_worker and (found < 0 or since < first):
            first = since
            found = worker
    return found

cdef inline void permits_reclaim(const Shm *s, int worker) noexcept nogil:
    """By the supervisor, once the worker is dead: its permits are free, its wants void."""
    cdef uint32_t *slots
    cdef uint32_t i, mark
    cdef int target
    for target in range(s.targets):
        slots = shm_permits(s, target)
        mark = atomic_get32(shm_limit(s, target) + 1)
        for i in range(mark):
            if atomic_get32(slots + i) == <uint32_t>worker + 1:
                atomic_set32(slots + i, 0)
        want_set(s, target, worker, 0)

# ---------------------------------------------------------------- rings: messages between workers

cdef inline void shm_wake(const Shm *s, int worker) noexcept nogil:
    """Makes the worker's eventfd readable. After ring_push, or a permit given while that worker wants one."""
    eventfd_raise(s.wake[worker])

cdef inline uint8_t *shm_ring(const Shm *s, int src, int dst) noexcept nogil:
    return s.base + s.ring_at + (<size_t>src * s.workers + dst) * RING_BYTES

cdef inline int ring_push(const Shm *s, int src, int dst, const void *p, int n) noexcept nogil:
    """Copies n bytes (at most 120) into the ring from `src` to `dst`; 0, or -1: full (or n out of range)."""
    cdef uint8_t *ring = shm_ring(s, src, dst)
    cdef uint64_t *head = <uint64_t*>ring           # next entry to take: written by dst
    cdef uint64_t *tail = <uint64_t*>(ring + 64)    # next entry to fill: written by src
    cdef uint64_t at = atomic_get64(tail)
    cdef uint8_t *entry
    if n <= 0 or n > RING_PAYLOAD_BYTES or at - atomic_acquire64(head) >= RING_ENTRIES:
        return -1
    entry = ring + 128 + (at % RING_ENTRIES) * RING_ENTRY_BYTES
    (<uint64_t*>entry)[0] = <uint64_t>n
    memcpy(entry + 8, p, n)
    atomic_release64(tail, at + 1)
    return 0

cdef inline int ring_pop(const Shm *s, int dst, int src, void *p) noexcept nogil:
    """Copies the oldest message into `p` (room for 120 bytes); its length, or 0: nothing there."""
    cdef uint8_t *ring = shm_ring(s, src, dst)
    cdef uint64_t *head = <uint64_t*>ring
    cdef uint64_t at = atomic_get64(head)
    cdef uint8_t *entry
    cdef uint64_t n
    if at == atomic_acquire64(<uint64_t*>(ring + 64)):
        return 0
    entry = ring + 128 + (at % RING_ENTRIES) * RING_ENTRY_BYTES
    n = (<uint64_t*>entry)[0]
    if n > RING_PAYLOAD_BYTES:
        n = RING_PAYLOAD_BYTES
    memcpy(p, entry + 8, n)
    atomic_release64(head, at + 1)
    return <int>n

cdef inline void rings_discard(const Shm *s, int worker) noexcept nogil:
    """By the supervisor, once the worker is dead: what was sent to it concerned clients it no longer has."""
    cdef uint8_t *ring
    cdef int src
    for src in range(s.workers):
        ring = shm_ring(s, src, worker)
        atomic_release64(<uint64_t*>ring, atomic_acquire64(<uint64_t*>(ring + 64)))

# ----------------------------------------------------------------

cdef class Segment:
    cdef Shm shm
    cdef object __weakref__
    cdef int _check(self, int index, int n, str what) except -1
    cdef uint64_t *_words(self, int worker, str scope, int index) except NULL
