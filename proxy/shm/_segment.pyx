"""The shared-memory segment as a Python object (the C interface is `_segment.pxd`).

The supervisor makes one `Segment` before it forks; children inherit the mapping and the eventfds, nobody attaches by
name, and the kernel frees it with the last process. The front thread counts through `add`, the controller reads through
`read`.
The supervisor alone calls `bury`, and only for a worker that has been reaped.
"""

from libc.errno cimport errno
from libc.string cimport memset, strerror
from proxy.shm._fields cimport (
    EP_WORDS, HISTOGRAM_BUCKETS, HISTOGRAM_WORDS, TG_WORDS, WK_FRONT_HEARTBEAT, WK_HEARTBEAT, WK_WORDS,
)

from proxy.shm import fields
from proxy.shm.histogram import Histogram

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void *addr, size_t length)
    int PROT_READ, PROT_WRITE, MAP_SHARED, MAP_ANONYMOUS, MAP_NORESERVE
    void *MAP_FAILED

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initval, int flags)
    int EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    int close(int fd)


if (fields.WORDS["worker"], fields.WORDS["endpoint"], fields.WORDS["target"], fields.HISTOGRAM_WORDS) != (
    WK_WORDS, EP_WORDS, TG_WORDS, HISTOGRAM_WORDS
):
    raise ImportError("proxy.shm._segment was built from another proxy/shm/fields.py: build again")

cdef object OSError_with(str what):
    return OSError(errno, f"{what}: {strerror(errno).decode()}")

cdef size_t aligned(size_t n) noexcept:
    return (n + 4095) & ~<size_t>4095


cdef class Segment:
    """Numbers, permits, wants and rings of all workers."""

    def __cinit__(self, int workers, int endpoints=128, int targets=64, int permits=16384):
        cdef Shm *s = &self.shm
        cdef size_t at = 0
        cdef void *base
        memset(s, 0, sizeof(Shm))
        memset(s.wake, 0xFF, sizeof(s.wake))        # -1: nothing to close
        if not 1 <= workers <= MAX_WORKERS:
            raise ValueError(f"workers = {workers}: between 1 and {MAX_WORKERS}")
        if not (1 <= endpoints <= 4096 and 1 <= targets <= 4096 and 1 <= permits <= 1 << 20):
            raise ValueError("endpoints, targets or permits out of range")
        s.workers, s.endpoints, s.targets, s.permits = workers, endpoints, targets, permits
        s.worker_at = at
        at = aligned(at + <size_t>workers * WK_WORDS * 8)
        s.endpoint_at = at
        at = aligned(at + <size_t>workers * endpoints * EP_WORDS * 8)
        s.target_at = at
        at = aligned(at + <size_t>workers * targets * TG_WORDS * 8)
        s.limit_at = at
        at = aligned(at + <size_t>targets * 64)
        s.want_at = at
        at = aligned(at + <size_t>targets * workers * 64)
        s.permit_at = at
        at = aligned(at + <size_t>targets * permits * 4)
        s.ring_at = at
        at = aligned(at + <size_t>workers * workers * RING_BYTES)
        s.bytes = at
        # most of it is never touched and never becomes memory
        base = mmap(NULL, at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        if base == MAP_FAILED:
            raise OSError_with(f"mmap of {at} bytes")
        s.base = <uint8_t*>base
        for worker in range(workers):
            s.wake[worker] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
            if s.wake[worker] < 0:
                raise OSError_with("eventfd")

    def __dealloc__(self):
        cdef int worker
        if self.shm.base != NULL:
            munmap(self.shm.base, self.shm.bytes)
        for worker in range(MAX_WORKERS):
            if self.shm.wake[worker] >= 0:
                close(self.shm.wake[worker])

    # ------------------------------------------------------------ geometry

    @property
    def workers(self): return self.shm.workers

    @property
    def endpoints(self): return self.shm.endpoints

    @property
    def targets(self): return self.shm.targets

    @property
    def permits(self): return self.shm.permits

    def wake_fd(self, int worker):
        """The eventfd that a worker's relay waits on."""
        self._check(worker, self.shm.workers, "worker")
        return self.shm.wake[worker]

    def wake(self, int worker):
        self._check(worker, self.shm.workers, "worker")
        shm_wake(&self.shm, worker)

    cdef int _check(self, int index, int n, str what) except -1:
        if not 0 <= index < n:
            raise IndexError(f"{what} {index} of {n}")
        return 0

    cdef uint64_t *_words(self, int worker, str scope, int index) except NULL:
        self._check(worker, self.shm.workers, "worker")
        if scope == "worker":
            return shm_worker(&self.shm, worker)
        if scope == "endpoint":
            self._check(index, self.shm.endpoints, "endpoint")
            return shm_endpoint(&self.shm, worker, index)
        if scope == "target":
            self._check(index, self.shm.targets, "target")
            return shm_target(&self.shm, worker, index)
        raise KeyError(scope)

    # ------------------------------------------------------------ writing (the field's owner only)

    def add(self, int worker, str scope, int index, str field, int64_t n=1, *, int element=0):
        """Adds `n` (gauges: may be negative). `index` is the endpoint's or target's slot; 0 for scope "worker"."""
        place = fields.LAYOUT[scope][field]
        self._check(element, place.field.words, field)
        word_add(self._words(worker, scope, index) + <int>place.offset + element, n)

    def set(self, int worker, str scope, int index, str field, int64_t value):
        atomic_set64(self._words(worker, scope, index) + <int>fields.LAYOUT[scope][field].offset, <uint64_t>value)

    def observe(self, int worker, str scope, int index, str field, uint64_t microseconds):
        """Adds one value to a histogram."""
        place = fields.LAYOUT[scope][field]
        if place.field.words != HISTOGRAM_WORDS:
            raise TypeError(f"{field} is no histogram")
        histogram_add(self._words(worker, scope, index) + <int>place.offset, microseconds)

    def beat(self, int worker, uint64_t now_ns):
        """The front thread's sign of life."""
        self._check(worker, self.shm.workers, "worker")
        atomic_set64(shm_worker(&self.shm, worker) + WK_FRONT_HEARTBEAT, now_ns)

    def beat_relay(self, int worker, uint64_t now_ns):
        """The relay thread's, for those who stand in for it."""
        self._check(worker, self.shm.workers, "worker")
        heartbeat(&self.shm, worker, now_ns)

    # ------------------------------------------------------------ reading: sums over workers, or one worker's

    def read(self, str scope, int index, str field, worker=None, *, int element=0):
        """The sum over all workers, or the number of one."""
        cdef int64_t total = 0
        cdef int w
        place = fields.LAYOUT[scope][field]
        self._check(element, place.field.words, field)
        cdef int offset = place.offset + element
        for w in range(self.shm.workers) if worker is None else (worker,):
            total += <int64_t>atomic_get64(self._words(w, scope, index) + offset)
        return total

    def read_array(self, str scope, int index, str field, worker=None):
        """An array field (by reason): the list of its sums."""
        length = fields.LAYOUT[scope][field].field.words
        return [self.read(scope, index, field, worker, element=i) for i in range(length)]

    def histogram(self, str scope, int index, str field, worker=None):
        cdef int i
        place = fields.LAYOUT[scope][field]
        if place.field.words != HISTOGRAM_WORDS:
            raise TypeError(f"{field} is no histogram")
        cdef int offset = place.offset
        cdef uint64_t sums[HISTOGRAM_WORDS]
        cdef uint64_t *words
        memset(sums, 0, sizeof(sums))
        for w in range(self.shm.workers) if worker is None else (worker,):
            words = self._words(w, scope, index) + offset
            for i in range(HISTOGRAM_WORDS):
                sums[i] += atomic_get64(words + i)
        return Histogram(sums[0], sums[1], tuple([sums[2 + i] for i in range(HISTOGRAM_BUCKETS)]))

    def heartbeat_of(self, int worker):
        """(relay, front) in nanoseconds of the monotonic clock; 0 = not yet."""
        self._check(worker, self.shm.workers, "worker")
        cdef uint64_t *words = shm_worker(&self.shm, worker)
        return atomic_get64(words + WK_HEARTBEAT), atomic_get64(words + WK_FRONT_HEARTBEAT)

    # ------------------------------------------------------------ permits, wants, rings: doors for Python

    def set_limit(self, int target, uint32_t limit):
        self._check(target, self.shm.targets, "target")
        limit_set(&self.shm, target, limit)

    def limit(self, int target):
        self._check(target, self.shm.targets, "target")
        return limit_get(&self.shm, target)

    def take_permit(self, int target, int worker):
        self._check(target, self.shm.targets, "target")
        self._check(worker, self.shm.workers, "worker")
        return permit_take(&self.shm, target, worker)

    def give_permit(self, int target, int slot):
        self._check(target, self.shm.targets, "target")
        self._check(slot, self.shm.permits, "permit")
        permit_give(&self.shm, target, slot)

    def permits_used(self, int target):
        self._check(target, self.shm.targets, "target")
        return permits_used(&self.shm, target)

    def permits_held(self, int target, int worker):
        self._check(target, self.shm.targets, "target")
        self._check(worker, self.shm.workers, "worker")
        return permits_held(&self.shm, target, worker)

    def set_want(self, int target, int worker, uint64_t since_ns):
        self._check(target, self.shm.targets, "target")
        self._check(worker, self.shm.workers, "worker")
        want_set(&self.shm, target, worker, since_ns)

    def want(self, int target, int worker):
        self._check(target, self.shm.targets, "target")
        self._check(worker, self.shm.workers, "worker")
        return want_get(&self.shm, target, worker)

    def longest_want(self, int target, int except_worker=-1):
        self._check(target, self.shm.targets, "target")
        return longest_want(&self.shm, target, except_worker)

    def push(self, int src, int dst, bytes message not None):
        """False: the ring is full."""
        self._check(src, self.shm.workers, "worker")
        self._check(dst, self.shm.workers, "worker")
        if not 1 <= len(message) <= RING_PAYLOAD_BYTES:
            raise ValueError(f"{len(message)} bytes: between 1 and {RING_PAYLOAD_BYTES}")
        return ring_push(&self.shm, src, dst, <const uint8_t*>message, <int>len(message)) == 0

    def pop(self, int dst, int src):
        """The oldest message, or None."""
        cdef uint8_t entry[RING_PAYLOAD_BYTES]
        self._check(src, self.shm.workers, "worker")
        self._check(dst, self.shm.workers, "worker")
        cdef int n = ring_pop(&self.shm, dst, src, entry)
        return entry[:n] if n else None

    # ------------------------------------------------------------ after a worker's death

    def clear_worker(self, int worker):
        """Gauges to zero: what it had open is gone. Counters and histograms stay: what happened, happened."""
        cdef uint64_t *words
        cdef int offset
        for scope, count in (("worker", 1), ("endpoint", self.shm.endpoints), ("target", self.shm.targets)):
            gauges = [p.offset for p in fields.LAYOUT[scope].values() if p.field.kind == "gauge"]
            for index in range(count):
                words = self._words(worker, scope, index)
                for offset in gauges:
                    if atomic_get64(words + offset) != 0:     # a page never touched stays so
                        atomic_set64(words + offset, 0)

    def bury(self, int worker):
        """All that a reaped worker leaves: permits, wants, messages to it, gauges. Then those who wait look again."""
        cdef int target, other
        self._check(worker, self.shm.workers, "worker")
        permits_reclaim(&self.shm, worker)
        rings_discard(&self.shm, worker)
        self.clear_worker(worker)
        for other in range(self.shm.workers):
            for target in range(self.shm.targets):
                if want_get(&self.shm, target, other) != 0:
                    shm_wake(&self.shm, other)
                    break
