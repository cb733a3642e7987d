"""The relay thread: an epoll loop without the GIL, and the door through which the front thread reaches it.

A turn: wait; note what the kernel says; visit the idle servers that became readable *before* anybody can borrow them (edge
case 5), then everybody on the ready list, once each; read the mail; do what is due by the clock; bury the dead.

Every method of `Relay` but `run` belongs to the front thread and only writes letters. The relay thread owns all structs of
`_state` from the moment their letter is read until it frees them.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset, strncpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from proxy._reasons cimport CloseReason
from proxy._wire cimport iobuf_free, iobuf_len
from proxy.dataplane._chan cimport chan_close, chan_init, chan_keep, chan_send
from proxy.dataplane._client cimport client_visit
from proxy.dataplane._dump cimport CLIENT_COLUMNS, POOL_COLUMNS, SERVER_COLUMNS, dump_clients, dump_pools, dump_servers
from proxy.dataplane._janitor cimport janitor, janitor_targets
from proxy.dataplane._mailbox cimport letter_free, letter_new, letter_text, mail_put, mail_take
from proxy.dataplane._pool cimport pool_add, pool_free, pool_new, pool_open_failed
from proxy.dataplane._server cimport server_visit
from proxy.dataplane._session cimport (
    CancelMessage, DropMessage, EVENT_CANCEL, EVENT_CLIENT_CLOSED, EVENT_DRAINED, EVENT_DUMP, EVENT_FORGET, EVENT_LOG,
    EVENT_OPEN, EVENT_PINNED, EVENT_POOL_EMPTY, EVENT_SERVER_CLOSED, EVENT_SERVER_FATAL, MESSAGE_CANCEL,
    MESSAGE_DROP_DATABASE, client_close, client_end, drop_database, pool_grow, pool_opening_ended, schedule, server_close,
    server_free, session_cancel, session_cancel_done, target_serve, tell,
)
from proxy.dataplane._state cimport (
    CLIENT_WAITING, Chan, Client, Letter, Link, Pool, Relay_, SERVER_BUSY, SERVER_HELD, SERVER_IDLE, Server, Target,
    list_append, list_empty, list_init, list_remove,
)
from proxy.net._tls cimport TlsSession, tls_free
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._backend cimport backend_free, backend_init
from proxy.pgsql._frontend cimport frontend_init
from proxy.pgsql._params cimport params_drop, params_init, params_intern
from proxy.pgsql._statements cimport statements_free, statements_init
from proxy.shm._fields cimport TG_DATABASE_CONNECTIONS, TG_DATABASE_CONNECTIONS_WITH_TLS, WK_LOOP_TURNS
from proxy.shm._segment cimport (
    Segment, heartbeat, limit_set, permit_give, ring_pop, ring_push, shm_endpoint, shm_target, shm_wake, shm_worker, want_set,
    word_add,
)

from proxy.reasons import CloseReason as Reasons

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    enum: EPOLL_CTL_ADD, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLLHUP, EPOLLERR, EPOLLET, EPOLL_CLOEXEC

cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int initval, int flags)
    enum: EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    ssize_t read(int fd, void *buf, size_t n)

cdef enum Sizes_:
    BUFFER_BYTES = 131072
    EVENTS = 512
    TICK_MS = 100
    CLIENT_BIT = 128             # a CancelRequest's pid is slot * 128 + worker

cdef enum Mail_:
    MAIL_POOL = 1
    MAIL_CLIENT = 2
    MAIL_SERVER = 3
    MAIL_SERVER_FAILED = 4
    MAIL_WANT = 5
    MAIL_CANCEL = 6
    MAIL_CANCEL_DONE = 7
    MAIL_PAUSE = 8
    MAIL_DRAIN = 9
    MAIL_SHUTDOWN = 10
    MAIL_KILL = 11
    MAIL_DUMP = 12
    MAIL_STOP = 13
    MAIL_SERVE = 14              # a limit changed
    MAIL_POOL_REMOVE = 15
    MAIL_CANCEL_TO = 16
    MAIL_ENDPOINT_GONE = 17


cdef uint64_t _clock() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1000000000 + <uint64_t>t.tv_nsec


cdef inline uint64_t _ns(double seconds) noexcept nogil:
    return <uint64_t>(seconds * 1e9) if 0 < seconds < 1e9 else (0 if seconds <= 0 else <uint64_t>1e18)


cdef Chan *_chan_at(Link *ready) noexcept nogil:
    return <Chan*>ready          # its first member


cdef Chan *_chan_of_place(Link *place) noexcept nogil:
    return <Chan*>(<char*>place - sizeof(Chan))   # `place` follows `ch` in Client and Server alike


# ---------------------------------------------------------------- mail from the front

cdef bint _watch(Relay_ *r, Chan *ch) noexcept nogil:
    cdef epoll_event event
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | <uint32_t>EPOLLET
    event.data.ptr = ch
    return epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, ch.fd, &event) == 0


cdef Pool *_pool(Relay_ *r, int64_t id) noexcept nogil:
    return r.pools[id] if 0 <= id < r.n_pools else NULL


cdef bint _room_for_pool(Relay_ *r, int64_t id) noexcept nogil:
    cdef int n = r.n_pools if r.n_pools else 16
    cdef Pool **grown
    if id < r.n_pools:
        return True
    while n <= id:
        n *= 2
    grown = <Pool**>realloc(r.pools, n * sizeof(Pool*))
    if grown == NULL:
        return False
    memset(grown + r.n_pools, 0, (n - r.n_pools) * sizeof(Pool*))
    r.pools = grown
    r.n_pools = n
    return True


cdef bint _room_for_slot(Relay_ *r, int slot) noexcept nogil:
    cdef int n = r.n_slots if r.n_slots else 256
    cdef Client **grown
    if slot < r.n_slots:
        return True
    while n <= slot:
        n *= 2
    grown = <Client**>realloc(r.slots, n * sizeof(Client*))
    if grown == NULL:
        return False
    memset(grown + r.n_slots, 0, (n - r.n_slots) * sizeof(Client*))
    r.slots = grown
    r.n_slots = n
    return True


cdef void _mail_pool(Relay_ *r, Letter *m) noexcept nogil:
    """a: id, b: target slot, c: max_idle, d: gen, x: borrow timeout, y: idle timeout, z: life, text: database."""
    cdef Pool *q
    cdef Link *at
    cdef Server *s
    if not _room_for_pool(r, m.a):
        return
    q = r.pools[m.a]
    if q == NULL:
        q = pool_new(<int>m.a, &r.targets[m.b])
        if q == NULL:
            return
        q.gen = <int>m.d
        q.empty_since = r.now
        r.pools[m.a] = q
    q.max_idle = <int>m.c
    q.borrow_timeout = _ns(m.x)
    q.idle_timeout = _ns(m.y)
    q.life = _ns(m.z)
    strncpy(&q.database[0], <char*>m.text, 63)
    if q.gen != <int>m.d:
        q.gen = <int>m.d
        q.failures = 0
        q.retry_at = 0
        while not list_empty(&q.idle):
            s = <Server*>_chan_of_place(q.idle.next)
            server_close(r, s, CloseReason.SERVER_CONFIG_CHANGED, NULL)


cdef void _discard_client(Relay_ *r, Client *c) noexcept nogil:
    """A handed-over client that cannot be adopted."""
    tell(r, EVENT_CLIENT_CLOSED, c.slot, CloseReason.CLIENT_SHUTDOWN, c.endpoint | (<int64_t>c.tls_on << 32), c.about, c.about_size)
    chan_close(&c.ch)
    params_drop(&r.params, c.told)
    free(c.about)
    free(c)


cdef void _mail_client(Relay_ *r, Letter *m) noexcept nogil:
    """p: Client, a: pool id, text: its ParameterStatus messages, b: bytes of text that are, the rest is unread input."""
    cdef Client *c = <Client*>m.p
    cdef Pool *q = _pool(r, m.a)
    m.p = NULL
    c.told = params_intern(&r.params, m.text, m.b)
    if q == NULL or c.told == NULL or not _room_for_slot(r, c.slot) or (m.size > m.b and chan_keep(&c.ch, m.text + m.b, m.size - m.b) < 0):
        _discard_client(r, c)
        return
    c.fe.std_strings = c.told.std_strings
    c.fe.ascii_safe = c.told.ascii_safe
    c.pool = q
    c.ep = shm_endpoint(&r.shm, r.worker, c.endpoint)
    c.connected_at = r.now
    c.active_at = r.now
    if c.life_ends:
        c.life_ends += r.now
    if not _watch(r, &c.ch):
        _discard_client(r, c)
        return
    r.slots[c.slot] = c
    r.n_clients += 1
    q.n_clients += 1
    list_append(&r.clients, &c.age)
    list_append(&r.activity, &c.activity)
    c.resume = 1
    schedule(r, &c.ch)
    if r.stopping:
        client_end(r, c, CloseReason.CLIENT_SHUTDOWN)


cdef void _mail_server(Relay_ *r, Letter *m) noexcept nogil:
    """p: Server, a: pool id, text: ParameterStatus messages, b: bytes of text that are, the rest is unread input."""
    cdef Server *s = <Server*>m.p
    cdef Pool *q = _pool(r, m.a)
    cdef Target *t
    m.p = NULL
    s.params = params_intern(&r.params, m.text, m.b)
    if q == NULL or s.params == NULL or not _watch(r, &s.ch) or (m.size > m.b and chan_keep(&s.ch, m.text + m.b, m.size - m.b) < 0):
        if q != NULL:
            pool_opening_ended(r, q, s.permit, False)
        chan_close(&s.ch)
        params_drop(&r.params, s.params)
        backend_free(&s.be)
        free(s)
        return
    t = q.target
    pool_opening_ended(r, q, s.permit, True)
    q.failures = 0
    q.retry_at = 0
    s.pool = q
    s.gen = q.gen
    s.id = r.next_server
    r.next_server += 1
    s.be.tx_status = p.TX_IDLE
    s.opened_at = r.now
    # spread over a tenth of the life, so that a pool filled at once does not empty at once (edge case 102)
    s.life_ends = r.now + q.life - (q.life // 10) * (s.id % 16) // 16
    s.state = SERVER_HELD
    pool_add(q, s)
    r.n_servers += 1
    word_add(t.tg + TG_DATABASE_CONNECTIONS, 1)
    if s.ch.tls != NULL:
        word_add(t.tg + TG_DATABASE_CONNECTIONS_WITH_TLS, 1)
    if iobuf_len(&s.ch.tail):
        schedule(r, &s.ch)
    server_free(r, s)
    if t.wanting:
        target_serve(r, t)


cdef void _mail_server_failed(Relay_ *r, Letter *m) noexcept nogil:
    """a: pool id, b: permit, c: permanent?, text: the ErrorResponse for those who wait."""
    cdef Pool *q = _pool(r, m.a)
    cdef Client *c
    if q == NULL:
        return
    pool_opening_ended(r, q, <int>m.b, False)
    pool_open_failed(q, r.now)
    if m.c:
        while not list_empty(&q.waiting):
            c = <Client*>_chan_of_place(q.waiting.next)
            if m.size:
                # the database's own words; they end the session there as they do here
                c.closing_as = CloseReason.SERVER_LOGIN_FAILED
                chan_send(&c.ch, m.text, m.size)
            client_end(r, c, CloseReason.SERVER_LOGIN_FAILED)
    target_serve(r, q.target)


cdef void _mail(Relay_ *r) noexcept nogil:
    cdef Letter *m = mail_take(&r.inbox)
    cdef Letter *following
    cdef Pool *q
    cdef Server *s
    cdef Client *c
    cdef Link *at
    cdef int i
    cdef CancelMessage message
    while m != NULL:
        following = m.next
        if m.kind == MAIL_POOL:
            _mail_pool(r, m)
        elif m.kind == MAIL_CLIENT:
            _mail_client(r, m)
        elif m.kind == MAIL_SERVER:
            _mail_server(r, m)
        elif m.kind == MAIL_SERVER_FAILED:
            _mail_server_failed(r, m)
        elif m.kind == MAIL_WANT:
            q = _pool(r, m.a)
            if q != NULL and q.n_servers == 0 and not q.wanted:
                q.wanted = 1
                q.wanted_since = r.now
                pool_grow(r, q)
        elif m.kind == MAIL_CANCEL:
            session_cancel(r, <int>m.a, m.text, m.size)
        elif m.kind == MAIL_CANCEL_TO:
            message.kind = MESSAGE_CANCEL
            message.slot = <int>m.b
            message.key_size = <uint32_t>m.size
            if m.size <= 32 and 0 <= m.a < r.shm.workers:
                memcpy(&message.key[0], m.text, m.size)
                # a full ring drops the request: a cancel is a wish, and a storm of them must not cost anybody anything
                if ring_push(&r.shm, r.worker, <int>m.a, &message, sizeof(CancelMessage)) == 0:
                    shm_wake(&r.shm, <int>m.a)
        elif m.kind == MAIL_CANCEL_DONE:
            s = _server_by_id(r, <uint32_t>m.a)
            if s != NULL:
                session_cancel_done(r, s)
        elif m.kind == MAIL_PAUSE:
            for i in range(64):
                if m.a < 0 or m.a == i:
                    r.targets[i].paused = m.b != 0
            if not m.b:
                _serve_all(r)
        elif m.kind == MAIL_DRAIN:
            r.draining = m.a != 0
            r.drained_told = 0
            r.drain_ends = r.now + _ns(m.x)
            r.janitor_at = r.now
        elif m.kind == MAIL_SHUTDOWN:
            r.stopping = 1
            r.draining = 1
            r.drained_told = 0
            r.drain_ends = r.now
            r.janitor_at = r.now
        elif m.kind == MAIL_KILL:
            if 0 <= m.a < r.n_slots and r.slots[m.a] != NULL:
                client_end(r, r.slots[m.a], CloseReason.CLIENT_KILLED)
        elif m.kind == MAIL_ENDPOINT_GONE:
            at = r.clients.next
            while at != &r.clients:
                c = _client_of_age(at)
                at = at.next
                if c.endpoint == m.a:
                    c.expired = 1
                    if c.server == NULL and c.state != CLIENT_WAITING:
                        client_end(r, c, CloseReason.ENDPOINT_REMOVED)
        elif m.kind == MAIL_DUMP:
            if m.b == 0:
                dump_clients(r, m.a)
            elif m.b == 1:
                dump_servers(r, m.a)
            else:
                dump_pools(r, m.a)
        elif m.kind == MAIL_SERVE:
            target_serve(r, &r.targets[m.a])
        elif m.kind == MAIL_POOL_REMOVE:
            q = _pool(r, m.a)
            if q != NULL and not q.n_clients and not q.n_servers and not q.n_opening and not q.n_waiting and not q.wanted:
                r.pools[m.a] = NULL
                pool_free(q)
        elif m.kind == MAIL_STOP:
            r.stopping = 2
        letter_free(m)
        m = following


cdef Client *_client_of_age(Link *age) noexcept nogil:
    cdef Client probe            # only its layout is used
    return <Client*>(<char*>age - (<char*>&probe.age - <char*>&probe))


cdef Server *_server_of_age(Link *age) noexcept nogil:
    cdef Server probe            # only its layout is used
    return <Server*>(<char*>age - (<char*>&probe.age - <char*>&probe))


cdef Server *_server_by_id(Relay_ *r, uint32_t id) noexcept nogil:
    """Cold: only answers to cancel requests look a server up."""
    cdef int i
    cdef Link *at
    for i in range(r.n_pools):
        if r.pools[i] == NULL:
            continue
        at = r.pools[i].servers.next
        while at != &r.pools[i].servers:
            if _server_of_age(at).id == id:
                return _server_of_age(at)
            at = at.next
    return NULL


cdef void _serve_all(Relay_ *r) noexcept nogil:
    """After a pause: idle servers to those who waited, then growth."""
    cdef Pool *q
    cdef Server *s
    cdef int i
    for i in range(r.n_pools):
        q = r.pools[i]
        if q == NULL:
            continue
        while not list_empty(&q.waiting) and not list_empty(&q.idle) and not q.target.paused:
            s = <Server*>_chan_of_place(q.idle.next)
            q.n_idle -= 1
            server_free(r, s)
        pool_grow(r, q)


# ---------------------------------------------------------------- messages from other workers

cdef void _neighbours(Relay_ *r) noexcept nogil:
    cdef uint64_t buffer[15]
    cdef uint32_t kind
    cdef int i, n
    for i in range(r.shm.workers):
        if i == r.worker:
            continue
        while True:
            n = ring_pop(&r.shm, r.worker, i, &buffer[0])
            if n == 0:
                break
            kind = (<uint32_t*>&buffer[0])[0]
            if kind == MESSAGE_CANCEL and n == <int>sizeof(CancelMessage) and (<CancelMessage*>&buffer[0]).key_size <= 32:
                session_cancel(r, (<CancelMessage*>&buffer[0]).slot, &(<CancelMessage*>&buffer[0]).key[0], (<CancelMessage*>&buffer[0]).key_size)
            elif kind == MESSAGE_DROP_DATABASE and n == <int>sizeof(DropMessage) and 0 <= (<DropMessage*>&buffer[0]).target < 64:
                (<DropMessage*>&buffer[0]).database[63] = 0
                drop_database(r, &r.targets[(<DropMessage*>&buffer[0]).target], &(<DropMessage*>&buffer[0]).database[0])
    janitor_targets(r)


# ---------------------------------------------------------------- the loop

cdef void _drain_eventfd(int fd) noexcept nogil:
    cdef uint64_t count
    read(fd, &count, 8)


cdef void _loop(Relay_ *r) noexcept nogil:
    cdef epoll_event events[EVENTS]
    cdef Chan *ch
    cdef Link *at
    cdef Link turn
    cdef uint32_t what
    cdef int i, n, timeout
    cdef bint mail, neighbours
    r.now = _clock()
    while r.stopping < 2:
        timeout = 0
        if list_empty(&r.ready):
            r.now = _clock()
            timeout = 0 if r.janitor_at <= r.now else <int>((r.janitor_at - r.now + 999999) // 1000000)
        n = epoll_wait(r.epoll_fd, &events[0], EVENTS, timeout)
        r.now = _clock()
        mail = neighbours = False
        for i in range(n):
            ch = <Chan*>events[i].data.ptr
            if <void*>ch == <void*>&r.mail_fd:
                mail = True
                continue
            if <void*>ch == <void*>&r.shm:
                neighbours = True
                continue
            what = events[i].events
            if what & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                ch.readable = 1
            if what & (EPOLLOUT | EPOLLHUP | EPOLLERR):
                ch.writable = 1
            if what & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                ch.hup = 1
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
            ch = _chan_at(at)
            if ch.is_server:
                server_visit(r, <Server*>ch)
            else:
                client_visit(r, <Client*>ch)
        if mail:
            _drain_eventfd(r.mail_fd)
        if mail or r.inbox != NULL:
            _mail(r)
        if neighbours:
            _drain_eventfd(r.shm.wake[r.worker])
            _neighbours(r)
        if r.now >= r.janitor_at:
            r.janitor_at = r.now + <uint64_t>TICK_MS * 1000000
            janitor(r)
            heartbeat(&r.shm, r.worker, r.now)
        word_add(r.wk + WK_LOOP_TURNS, 1)
        while not list_empty(&r.graves):
            ch = _chan_of_place(r.graves.next)
            list_remove(r.graves.next)
            free(ch)


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
            server_close(r, _server_of_age(r.pools[i].servers.next), CloseReason.SERVER_SHUTDOWN, NULL)
        pool_free(r.pools[i])
    while not list_empty(&r.graves):
        at = r.graves.next
        list_remove(at)
        free(_chan_of_place(at))
    m = mail_take(&r.inbox)
    while m != NULL:
        following = m.next
        if m.p != NULL:
            chan_close(<Chan*>m.p)
            if m.kind == MAIL_CLIENT:
                free((<Client*>m.p).about)
            else:
                backend_free(&(<Server*>m.p).be)
            free(m.p)
        letter_free(m)
        m = following
    m = mail_take(&r.outbox)
    while m != NULL:
        following = m.next
        free(m.p)
        letter_free(m)
        m = following
    statements_free(&r.statements)
    iobuf_free(&r.scratch)
    free(r.pools)
    free(r.slots)
    for i in range(64):
        free(r.errors[i])
    close(r.epoll_fd)
    close(r.mail_fd)
    close(r.event_fd)
    free(r.buf)
    free(r)


cdef class Relay:
    """The front thread's door to the relay thread. `errors`: ErrorResponse by CloseReason; CLOSE_NONE means "canceled"."""

    cdef Relay_ *r
    cdef Segment segment
    cdef public bint running

    def __cinit__(self, Segment segment not None, int worker, dict errors not None):
        cdef Relay_ *r
        cdef epoll_event event
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
        list_init(&r.activity)
        list_init(&r.closing)
        list_init(&r.cleanups)
        list_init(&r.held)
        list_init(&r.graves)
        params_init(&r.params)
        statements_init(&r.statements)
        r.wk = shm_worker(&r.shm, worker)
        r.buf = <uint8_t*>malloc(BUFFER_BYTES)
        for i in range(segment.shm.targets):
            r.targets[i].slot = i
            r.targets[i].tg = shm_target(&r.shm, worker, i)
        for reason, text in errors.items():
            i = int(reason)
            if not 0 <= i < 64 or not isinstance(text, bytes):
                raise ValueError(f"errors[{reason!r}]")
            r.errors[i] = <uint8_t*>malloc(len(text) + 1)
            if r.errors[i] == NULL:
                raise MemoryError
            memcpy(r.errors[i], <const uint8_t*>text, len(text))
            r.error_size[i] = len(text)
        r.epoll_fd = epoll_create1(EPOLL_CLOEXEC)
        r.mail_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        r.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if r.buf == NULL or r.epoll_fd < 0 or r.mail_fd < 0 or r.event_fd < 0:
            raise OSError(errno, "cannot create the relay's descriptors")
        event.events = EPOLLIN | <uint32_t>EPOLLET
        event.data.ptr = &r.mail_fd
        epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, r.mail_fd, &event)
        event.data.ptr = &r.shm
        epoll_ctl(r.epoll_fd, EPOLL_CTL_ADD, r.shm.wake[worker], &event)

    def __dealloc__(self):
        if self.r != NULL and not self.running:
            _bury_all(self.r)

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
             str database, int gen):
        """Creates or updates a pool. A new `gen` makes its present connections close as they come free. Seconds."""
        if pool_id < 0 or not 0 <= target_slot < self.r.shm.targets:
            raise ValueError(f"pool {pool_id}, target {target_slot}")
        self._post(MAIL_POOL, pool_id, target_slot, max_idle, gen, database.encode(), borrow_timeout, idle_timeout, life)

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
               bytes parameters not None, bytes unread not None, double idle_timeout, double life, bint tls_on=False, str peer="", str user="",
               str database="", str application="", bint std_strings=True, bint ascii_safe=True):
        """Hands a logged-in client over. From here on the descriptor and the TLS session are the relay's."""
        cdef Client *c
        cdef bytes about = b"\0".join(part.replace("\0", "").encode()[:200] for part in (peer, user, database, application))
        if len(cancel_key) > 32 or slot <= 0:
            raise ValueError("cancel key or slot")
        c = <Client*>calloc(1, sizeof(Client))
        if c == NULL:
            raise MemoryError
        chan_init(&c.ch, fd, False)
        list_init(&c.place)
        list_init(&c.activity)
        list_init(&c.age)
        frontend_init(&c.fe)
        c.fe.defer = 1
        c.slot = slot
        c.pid = slot * CLIENT_BIT + self.r.worker
        c.endpoint = endpoint
        c.key_size = len(cancel_key)
        memcpy(&c.key[0], <const uint8_t*>cancel_key, len(cancel_key))
        c.idle_timeout = _ns(idle_timeout)
        c.life_ends = _ns(life)
        c.tls_on = tls is not None or tls_on
        c.about = <char*>malloc(len(about) + 1)
        if c.about == NULL:
            free(c)
            raise MemoryError
        memcpy(c.about, <const char*>about, len(about))
        c.about_size = len(about)
        if tls is not None:
            c.ch.tls = tls.detach()
        self._post(MAIL_CLIENT, pool_id, len(parameters), 0, 0, parameters + unread, 0, 0, 0, c)

    def server(self, int fd, TlsSession tls, *, int pool_id, int permit, uint32_t backend_pid, bytes cancel_key not None,
               bytes parameters not None, bytes unread not None, bint std_strings=True):
        """Hands over a connection that is logged in and idle: the answer to the event "open"."""
        cdef Server *s
        if len(cancel_key) > 256:
            raise ValueError("cancel key")
        s = <Server*>calloc(1, sizeof(Server))
        if s == NULL:
            raise MemoryError
        chan_init(&s.ch, fd, True)
        list_init(&s.place)
        list_init(&s.age)
        backend_init(&s.be)
        s.permit = permit
        s.backend_pid = backend_pid
        s.key_size = <uint8_t>min(<int>len(cancel_key), 255)
        memcpy(&s.key[0], <const uint8_t*>cancel_key, s.key_size)
        if tls is not None:
            s.ch.tls = tls.detach()
        self._post(MAIL_SERVER, pool_id, len(parameters), 0, 0, parameters + unread, 0, 0, 0, s)

    def server_failed(self, int pool_id, int permit, int failure, bytes error not None):
        """The other answer to "open": `error` is the ErrorResponse that waiters get if the failure is permanent."""
        self._post(MAIL_SERVER_FAILED, pool_id, permit, failure, 0, error)

    def cancel(self, int slot, bytes key not None):
        self._post(MAIL_CANCEL, slot, 0, 0, 0, key)

    def cancel_to(self, int worker, int slot, bytes key not None):
        """A CancelRequest heard here for another worker's client: through shared memory, on the relay thread."""
        if worker == self.r.worker:
            self.cancel(slot, key)
        else:
            self._post(MAIL_CANCEL_TO, worker, slot, 0, 0, key)

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
        self._post(MAIL_DUMP, request_id, ("clients", "servers", "pools").index(what))

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
                out.append(("pinned", m.a, m.b, m.c))
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


cdef list _about(bytes text):
    """[peer, user, database, application]"""
    return [part.decode("utf-8", "replace") for part in text.split(b"\0")]


cdef list _rows(int64_t what, int64_t *numbers, int64_t n, bytes text):
    columns = (CLIENT_COLUMNS, SERVER_COLUMNS, POOL_COLUMNS)[what]
    cdef Py_ssize_t width = len(columns)
    cdef Py_ssize_t i, j
    out = []
    abouts = text.split(b"\n") if what == 0 else []
    for i in range(n):
        row = {columns[j]: numbers[i * width + j] for j in range(width)}
        if what == 0:
            row.update(zip(("peer", "user", "database", "application"), _about(abouts[i])))
        elif what == 2:
            row["database"] = text.split(b"\n")[i].decode("utf-8", "replace")
        out.append(row)
    return out
