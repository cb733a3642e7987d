"""The relay thread: its loop, without the GIL, and the door through which the front thread reaches it.

A turn: wait; note what the kernel says; visit the idle servers that became readable *before* anybody can borrow them (edge
case 5), then everybody on the ready list, once each; read the mail; do what is due by the clock; bury the dead.

Every method of `Relay` but `run` belongs to the front thread and only writes letters. The relay thread owns all structs of
`_state` from the moment their letter is read until it frees them.
"""

cimport cython
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from proxy._reasons cimport CloseReason
from proxy._wire cimport iobuf_free
from proxy.dataplane._audit cimport PROXY_DEBUGGING, audit
from proxy.dataplane._chan cimport chan_close, chan_init
from proxy.dataplane._client cimport client_visit
from proxy.dataplane._dump cimport CLIENT_COLUMNS, PIN_COLUMNS, POOL_COLUMNS, SERVER_COLUMNS
from proxy.dataplane._engine cimport engine_of
from proxy.dataplane._events cimport (
    EVENT_CANCEL, EVENT_CLIENT_CLOSED, EVENT_DRAINED, EVENT_DUMP, EVENT_FORGET, EVENT_LOG, EVENT_OPEN, EVENT_PINNED,
    EVENT_POOL_EMPTY, EVENT_REFUSED, EVENT_SERVER_CLOSED, EVENT_SERVER_FATAL, EVENT_UNPINNED,
)
from proxy.dataplane._janitor cimport janitor
from proxy.dataplane._letters cimport (
    MAIL_CANCEL, MAIL_CANCEL_DONE, MAIL_CANCEL_TO, MAIL_CLIENT, MAIL_DRAIN, MAIL_DUMP, MAIL_ENDPOINT_GONE, MAIL_KILL,
    MAIL_PAUSE, MAIL_POOL, MAIL_POOL_REMOVE, MAIL_SERVE, MAIL_SERVER, MAIL_SERVER_FAILED, MAIL_SHUTDOWN, MAIL_STOP,
    MAIL_WANT, letters_read, neighbours_read, seconds,
)
from proxy.dataplane._mailbox cimport letter_free, letter_new, letter_text, mail_put, mail_take
from proxy.dataplane._poller cimport Happening, POLLER_EVENTS, poller_add, poller_create, poller_wait
from proxy.dataplane._pool cimport pool_free
from proxy.dataplane._server cimport server_visit
from proxy.dataplane._session cimport client_close, schedule, server_close, server_gone
from proxy.dataplane._state cimport (
    BUFFER_BYTES, Chan, Client, ENGINES, Engine, Letter, Link, Relay_, SERVER_IDLE, Server, Terms, Words, chan_of_place,
    list_empty, list_init, list_remove, server_of_age,
)
from proxy.net._tls cimport TlsSession
from proxy.shm._fields cimport WK_LOOP_TURNS
from proxy.shm._segment cimport Segment, heartbeat, limit_set, shm_target, shm_worker, word_add

from proxy.reasons import CloseReason as Reasons

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initval, int flags)
    enum: EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t read(int fd, void *buf, size_t n)

cdef enum Sizes_:
    TICK_MS = 100
    CLIENT_BIT = 128             # a CancelRequest's pid is slot * 128 + worker


cdef uint64_t _clock() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000000 + <uint64_t>t.tv_nsec


# ---------------------------------------------------------------- the loop

cdef void _drain_eventfd(int fd) noexcept nogil:
    cdef uint64_t count
    read(fd, &count, 8)


cdef void _loop(Relay_ *r) noexcept nogil:
    cdef Happening events[POLLER_EVENTS]
    cdef Chan *ch
    cdef Link *at
    cdef Link turn
    cdef int i, n, timeout
    cdef bint mail, neighbours, worked
    worked = False
    r.now = _clock()
    while r.stopping < 2:
        timeout = 0
        if list_empty(&r.ready):
            r.now = _clock()
            timeout = 0 if r.janitor_at <= r.now else <int>((r.janitor_at - r.now + 999999) // 1000000)
        n = 0
        if worked and timeout:
            # under load more has come meanwhile: asking once costs less than falling asleep and being woken
            n = poller_wait(r.epoll_fd, &events[0], 0)
        if n == 0:
            n = poller_wait(r.epoll_fd, &events[0], timeout)
        worked = n > 0
        r.now = _clock()
        mail = neighbours = False
        for i in range(n):
            ch = <Chan*>events[i].who
            if <void*>ch == <void*>&r.mail_fd:
                mail = True
                continue
            if <void*>ch == <void*>&r.shm:
                neighbours = True
                continue
            ch.readable |= events[i].readable
            ch.writable |= events[i].writable
            ch.hup |= events[i].hup
            if ch.fd < 0:
                continue
            if ch.is_server and (<Server*>ch).state == SERVER_IDLE:
                server_visit(r, <Server*>ch)
            else:
                schedule(r, ch)
        # everybody on the list now gets one visit; whoever is scheduled meanwhile comes in the next turn
        list_init(&turn)
        if not list_empty(&r.ready):
            turn.next = r.ready.next
            turn.prev = r.ready.prev
            turn.next.prev = &turn
            turn.prev.next = &turn
            list_init(&r.ready)
        while not list_empty(&turn):
            at = turn.next
            list_remove(at)
            ch = <Chan*>at       # its first member
            if ch.is_server:
                server_visit(r, <Server*>ch)
            else:
                client_visit(r, <Client*>ch)
        if mail:
            _drain_eventfd(r.mail_fd)
        if mail or r.inbox != NULL:
            letters_read(r)
        if neighbours:
            _drain_eventfd(r.shm.wake[r.worker])
            neighbours_read(r)
        if r.now >= r.janitor_at:
            r.janitor_at = r.now + <uint64_t>TICK_MS * 1000000
            janitor(r)
            if PROXY_DEBUGGING:
                audit(r)
            heartbeat(&r.shm, r.worker, r.now)
        word_add(r.wk + WK_LOOP_TURNS, 1)
        while not list_empty(&r.graves):
            ch = chan_of_place(r.graves.next)
            list_remove(r.graves.next)
            free(ch)


cdef void _forget_words(Words *words) noexcept nogil:
    cdef int i
    for i in range(64):
        free(words.errors[i])
    for i in range(32):
        free(words.refusals[i])


cdef void _bury_all(Relay_ *r) noexcept nogil:
    """The thread has ended: closes and frees whatever is left."""
    cdef int i
    cdef Letter *m
    cdef Letter *following
    cdef Link *at
    for i in range(r.n_slots):
        if r.slots[i] != NULL:
            client_close(r, r.slots[i], CloseReason.CLIENT_SHUTDOWN)
    for i in range(r.n_pools):
        if r.pools[i] == NULL:
            continue
        while not list_empty(&r.pools[i].servers):
            server_close(r, server_of_age(r.pools[i].servers.next), CloseReason.SERVER_SHUTDOWN, NULL)
        pool_free(r.pools[i])
    while not list_empty(&r.parting):
        server_gone(r, <Server*>chan_of_place(r.parting.next))
    while not list_empty(&r.graves):
        at = r.graves.next
        list_remove(at)
        free(chan_of_place(at))
    m = mail_take(&r.inbox)
    while m != NULL:
        following = m.next
        if m.p != NULL and m.kind == MAIL_POOL:
            free(m.p)
        elif m.p != NULL:
            chan_close(<Chan*>m.p)
            if m.kind == MAIL_CLIENT:
                free((<Client*>m.p).about)
            free(m.p)
        letter_free(m)
        m = following
    m = mail_take(&r.outbox)
    while m != NULL:
        following = m.next
        free(m.p)
        letter_free(m)
        m = following
    for i in range(ENGINES):
        if r.tables[i] != NULL:
            engine_of(i).end(r)
        _forget_words(&r.words[i])
    iobuf_free(&r.scratch)
    free(r.pools)
    free(r.slots)
    close(r.epoll_fd)
    close(r.mail_fd)
    close(r.event_fd)
    free(r.buf)
    free(r)


cdef int _fill(uint8_t **texts, int *sizes, int n, dict words) except -1:
    cdef int i
    for reason, text in words.items():
        i = int(reason)
        if not 0 <= i < n or not isinstance(text, bytes):
            raise ValueError(f"what is told for {reason!r}")
        free(texts[i])
        texts[i] = <uint8_t*>malloc(len(text) + 1)
        if texts[i] == NULL:
            raise MemoryError
        memcpy(texts[i], <const uint8_t*>text, len(text))
        sizes[i] = len(text)
    return 0


cdef const Engine *_known(int number) except NULL:
    cdef const Engine *engine = engine_of(number)
    if engine == NULL:
        raise ValueError(f"engine {number} is not registered")
    return engine


@cython.no_gc_clear           # the segment must outlive the relay's last look at it
cdef class Relay:
    """The front thread's door to the relay thread. `errors`: an engine's message by CloseReason; CLOSE_NONE means "canceled".
    `refusals`: by PinReason. Both of engine 0; `words` gives them for another."""

    cdef Relay_ *r
    cdef Segment segment
    cdef public bint running

    def __cinit__(self, Segment segment not None, int worker, dict errors not None, dict refusals=None):
        cdef Relay_ *r
        cdef int i
        if segment.shm.targets > 64:
            raise ValueError("at most 64 targets")
        if not 0 <= worker < segment.shm.workers:
            raise ValueError(f"worker {worker} of {segment.shm.workers}")
        r = <Relay_*>calloc(1, sizeof(Relay_))
        if r == NULL:
            raise MemoryError
        self.r = r
        self.segment = segment
        r.epoll_fd = r.mail_fd = r.event_fd = -1
        r.shm = segment.shm
        r.worker = worker
        list_init(&r.ready)
        list_init(&r.clients)
        list_init(&r.closing)
        list_init(&r.cleanups)
        list_init(&r.held)
        list_init(&r.parting)
        list_init(&r.pinned)
        list_init(&r.graves)
        r.wk = shm_worker(&r.shm, worker)
        r.buf = <uint8_t*>malloc(BUFFER_BYTES)
        for i in range(segment.shm.targets):
            r.targets[i].slot = i
            r.targets[i].tg = shm_target(&r.shm, worker, i)
        for i in range(ENGINES):
            if engine_of(i) != NULL and not engine_of(i).begin(r):
                raise MemoryError
        self.words(0, errors, refusals or {})
        r.epoll_fd = poller_create()
        r.mail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        r.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if r.buf == NULL or r.epoll_fd < 0 or r.mail_fd < 0 or r.event_fd < 0:
            raise OSError(errno, "cannot create the relay's descriptors")
        if not (
            poller_add(r.epoll_fd, r.mail_fd, &r.mail_fd, False)
            and poller_add(r.epoll_fd, r.shm.wake[worker], &r.shm, False)
        ):
            raise OSError(errno, "cannot watch the relay's descriptors")

    def __dealloc__(self):
        if self.r != NULL and not self.running:
            _bury_all(self.r)

    def words(self, int engine, dict errors not None, dict refusals not None):
        """Before `run`. What clients of an engine are told."""
        if not 0 <= engine < ENGINES or self.running:
            raise ValueError(f"engine {engine}")
        _fill(self.r.words[engine].errors, self.r.words[engine].error_size, 64, errors)
        _fill(self.r.words[engine].refusals, self.r.words[engine].refusal_size, 32, refusals)

    def run(self):
        """The relay thread's body: returns after `stop()`."""
        cdef Relay_ *r = self.r
        self.running = True
        with nogil:
            _loop(r)
        self.running = False

    # ------------------------------------------------------------ letters to the relay

    cdef int _post(self, int kind, int64_t a=0, int64_t b=0, int64_t c=0, int64_t d=0, bytes text=None,
                   double x=0, double y=0, double z=0, void *p=NULL) except -1:
        cdef Letter *m = letter_new(kind)
        if m == NULL or (text is not None and letter_text(m, <const char*>text, len(text)) < 0):
            letter_free(m)
            raise MemoryError
        m.a, m.b, m.c, m.d = a, b, c, d
        m.x, m.y, m.z = x, y, z
        m.p = p
        mail_put(&self.r.inbox, self.r.mail_fd, m)
        return 0

    def pool(self, int pool_id, int target_slot, *, double borrow_timeout, double idle_timeout, double life, int max_idle,
             str database, int gen, bint init_opaque=False, double audit_after=0, ignored=(), refused=(),
             uint32_t max_prepared=256):
        """Creates or updates a pool. A new `gen` makes its present connections close as they come free. Seconds.

        `init_opaque`: what the pool's init_query set at the login of its connections is not known, so a RESET leaves them unlike
        the others. `audit_after`: of rest, 0 is never; `ignored`, `refused`: PinReasons."""
        cdef Terms *terms
        if pool_id < 0 or not 0 <= target_slot < self.r.shm.targets:
            raise ValueError(f"pool {pool_id}, target {target_slot}")
        terms = <Terms*>calloc(1, sizeof(Terms))
        if terms == NULL:
            raise MemoryError
        terms.audit_after = seconds(audit_after)
        terms.ignored = _bits(ignored)
        terms.refused = _bits(refused)
        terms.max_prepared = max_prepared
        self._post(
            MAIL_POOL, pool_id, target_slot, max_idle, <int64_t>gen << 1 | init_opaque, database.encode(), borrow_timeout,
            idle_timeout, life, terms,
        )

    def pool_remove(self, int pool_id):
        """Forgets a pool, if it is empty (see the event "pool_empty")."""
        self._post(MAIL_POOL_REMOVE, pool_id)

    def limit(self, int target_slot, int limit):
        """The ceiling of connections to a target, for the whole proxy."""
        limit_set(&self.r.shm, target_slot, max(limit, 0))
        self._post(MAIL_SERVE, target_slot)

    def want(self, int pool_id):
        """A login waits for the pool's first connection."""
        self._post(MAIL_WANT, pool_id)

    def client(self, int fd, TlsSession tls, *, int slot, int pool_id, int endpoint, bytes cancel_key not None,
               bytes parameters not None, bytes unread not None, double idle_timeout, double life, bytes settings=b"",
               bint tls_on=False, str peer="", str user="", str database="", str application="", int engine=0):
        """Hands a logged-in client over. From here on the descriptor and the TLS session are the relay's.

        `parameters`: what it was told of its session, `settings`: what it began with beyond the pool's own; both in the form
        that its engine's `client_begin` wants.
        """
        cdef Client *c
        cdef bytes about = b"\0".join(part.replace("\0", "").encode()[:200] for part in (peer, user, database, application))
        if len(cancel_key) > 32 or slot <= 0:
            raise ValueError("cancel key or slot")
        c = <Client*>calloc(1, _known(engine).client_size)
        if c == NULL:
            raise MemoryError
        c.engine = engine_of(engine)
        chan_init(&c.ch, fd, False)
        list_init(&c.place)
        list_init(&c.activity)
        list_init(&c.age)
        c.slot = slot
        c.pid = slot * CLIENT_BIT + self.r.worker
        c.endpoint = endpoint
        c.key_size = len(cancel_key)
        memcpy(&c.key[0], <const uint8_t*>cancel_key, len(cancel_key))
        c.idle_timeout = seconds(idle_timeout)
        c.life_ends = seconds(life)
        c.tls_on = tls is not None or tls_on
        c.about = <char*>malloc(len(about) + 1)
        if c.about == NULL:
            free(c)
            raise MemoryError
        memcpy(c.about, <const char*>about, len(about))
        c.about_size = len(about)
        if tls is not None:
            c.ch.tls = tls.detach()
        self._post(MAIL_CLIENT, pool_id, len(parameters), len(settings), 0, parameters + settings + unread, 0, 0, 0, c)

    def server(self, int fd, TlsSession tls, *, int pool_id, int permit, uint32_t backend_pid, bytes cancel_key not None,
               bytes parameters not None, bytes unread not None, bytes settings=b"", int engine=0):
        """Hands over a connection that is logged in and idle: the answer to the event "open". `settings`: as of `client`."""
        cdef Server *s
        if len(cancel_key) > 256:
            raise ValueError("cancel key")
        s = <Server*>calloc(1, _known(engine).server_size)
        if s == NULL:
            raise MemoryError
        s.engine = engine_of(engine)
        chan_init(&s.ch, fd, True)
        list_init(&s.place)
        list_init(&s.age)
        s.permit = permit
        s.backend_pid = backend_pid
        s.key_size = <uint16_t>len(cancel_key)
        memcpy(&s.key[0], <const uint8_t*>cancel_key, s.key_size)
        if tls is not None:
            s.ch.tls = tls.detach()
        self._post(MAIL_SERVER, pool_id, len(parameters), len(settings), 0, parameters + settings + unread, 0, 0, 0, s)

    def server_failed(self, int pool_id, int permit, int failure, bytes error not None):
        """The other answer to "open": `error` is the ErrorResponse that waiters get if the failure is permanent."""
        self._post(MAIL_SERVER_FAILED, pool_id, permit, failure, 0, error)

    def cancel(self, int slot, bytes key not None):
        self._post(MAIL_CANCEL, slot, 0, <int64_t>_clock(), 0, key)

    def cancel_to(self, int worker, int slot, bytes key not None):
        """A CancelRequest heard here for another worker's client: through shared memory, on the relay thread."""
        if worker == self.r.worker:
            self.cancel(slot, key)
        else:
            self._post(MAIL_CANCEL_TO, worker, slot, <int64_t>_clock(), 0, key)

    def cancel_done(self, int server_id):
        self._post(MAIL_CANCEL_DONE, server_id)

    def pause(self, int target_slot=-1):
        """No borrowing from here on (-1: for all targets)."""
        self._post(MAIL_PAUSE, target_slot, 1)

    def resume(self, int target_slot=-1):
        self._post(MAIL_PAUSE, target_slot, 0)

    def drain(self, double deadline_s):
        """Closes clients between transactions; at the deadline all. "drained" tells when none is left."""
        self._post(MAIL_DRAIN, 1, 0, 0, 0, None, deadline_s)

    def undrain(self):
        self._post(MAIL_DRAIN, 0)

    def shutdown(self, bint fast=True):
        """Tells all clients and closes them now."""
        self._post(MAIL_SHUTDOWN)

    def kill(self, int slot):
        self._post(MAIL_KILL, slot)

    def endpoint_gone(self, int endpoint):
        """Its clients are closed, each at the end of its transaction."""
        self._post(MAIL_ENDPOINT_GONE, endpoint)

    def dump(self, int request_id, str what):
        self._post(MAIL_DUMP, request_id, ("clients", "servers", "pools", "pins").index(what))

    def stop(self):
        """Ends `run()`."""
        self._post(MAIL_STOP)

    # ------------------------------------------------------------ events from the relay

    @property
    def event_fd(self): return self.r.event_fd

    def events(self):
        """Everything that happened since the last call, oldest first, as tuples."""
        cdef Letter *m
        cdef Letter *following
        cdef bytes text
        _drain_eventfd(self.r.event_fd)
        m = mail_take(&self.r.outbox)
        out = []
        while m != NULL:
            following = m.next
            text = (<const char*>m.text)[:m.size] if m.text != NULL else b""
            if m.kind == EVENT_OPEN:
                out.append(("open", m.a, m.b))
            elif m.kind == EVENT_CANCEL:
                out.append(("cancel", m.a, m.b, m.c, text))
            elif m.kind == EVENT_CLIENT_CLOSED:
                out.append(("client_closed", m.a, Reasons(m.b), m.c & 0xFFFFFFFF, bool(m.c >> 32), _about(text)))
            elif m.kind == EVENT_SERVER_CLOSED:
                out.append(("server_closed", m.a, m.b, Reasons(m.c), text.decode("utf-8", "replace")))
            elif m.kind == EVENT_SERVER_FATAL:
                out.append(("server_fatal", m.a, m.b, text))
            elif m.kind == EVENT_PINNED:
                out.append(("pinned", m.a, m.b, m.c, text))
            elif m.kind == EVENT_UNPINNED:
                out.append(("unpinned", m.a, m.b, m.c / 1000))
            elif m.kind == EVENT_REFUSED:
                out.append(("refused", m.a, m.b, m.c, text))
            elif m.kind == EVENT_DUMP:
                out.append(("dump", m.a, _rows(m.b, <int64_t*>m.p, m.c, text)))
                free(m.p)
            elif m.kind == EVENT_DRAINED:
                out.append(("drained",))
            elif m.kind == EVENT_FORGET:
                out.append(("forget", m.a))
            elif m.kind == EVENT_POOL_EMPTY:
                out.append(("pool_empty", m.a))
            elif m.kind == EVENT_LOG:
                out.append(("log", "info", text.decode("utf-8", "replace")))
            letter_free(m)
            m = following
        return out


cdef uint64_t _bits(reasons) except? 0:
    cdef uint64_t bits = 0
    for reason in reasons:
        bits |= <uint64_t>1 << int(reason)
    return bits


cdef list _about(bytes text):
    """[peer, user, database, application]"""
    return [part.decode("utf-8", "replace") for part in text.split(b"\0")]


cdef list _rows(int64_t what, int64_t *numbers, int64_t n, bytes text):
    columns = (CLIENT_COLUMNS, SERVER_COLUMNS, POOL_COLUMNS, PIN_COLUMNS)[what]
    cdef Py_ssize_t width = len(columns)
    cdef Py_ssize_t i, j
    out = []
    abouts = text.split(b"\n")
    for i in range(n):
        row = {columns[j]: numbers[i * width + j] for j in range(width)}
        if what == 0:
            row.update(zip(("peer", "user", "database", "application"), _about(abouts[i])))
        elif what == 2:
            row["database"] = abouts[i].decode("utf-8", "replace")
        elif what == 3:
            row.update(zip(("peer", "user", "database", "application", "digest"), _about(abouts[i])))
        out.append(row)
    return out
