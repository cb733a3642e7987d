"""What the relay thread is told: letters from the front thread, messages from the relay threads of other workers.

Cold: connections come and go here, verbs arrive, nothing is relayed. A letter's struct (`p`) belongs to whoever holds the
letter, and from here on to the relay.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset, strncpy

from proxy._reasons cimport CloseReason
from proxy._wire cimport iobuf_len
from proxy.dataplane._chan cimport chan_close, chan_keep, chan_send
from proxy.dataplane._dump cimport dump_clients, dump_pins, dump_pools, dump_servers
from proxy.dataplane._events cimport EVENT_CLIENT_CLOSED, tell
from proxy.dataplane._janitor cimport janitor_targets
from proxy.dataplane._mailbox cimport letter_free, mail_take
from proxy.dataplane._poller cimport poller_add
from proxy.dataplane._pool cimport pool_add, pool_free, pool_new, pool_open_failed
from proxy.dataplane._session cimport (
    CancelMessage, DropMessage, MESSAGE_CANCEL, MESSAGE_DROP_DATABASE, client_end, drop_database, pool_grow,
    pool_opening_ended, schedule, server_close, server_free, session_cancel, session_cancel_done, session_settle, target_serve,
)
from proxy.dataplane._state cimport (
    CLIENT_WAITING, Client, Letter, Line, Link, Pool, Relay_, SERVER_HELD, Server, Target, Terms, chan_of_place, client_of_age,
    list_append, list_empty, list_init, server_of_age,
)
from proxy.shm._fields cimport TG_DATABASE_CONNECTIONS, TG_DATABASE_CONNECTIONS_WITH_TLS
from proxy.shm._segment cimport ring_pop, ring_push, shm_endpoint, shm_wake, word_add


cdef uint64_t seconds(double s) noexcept nogil:
    """As nanoseconds; anything beyond 31 years is for ever."""
    return <uint64_t>(s * 1e9) if 0 < s < 1e9 else (0 if s <= 0 else <uint64_t>1e18)


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
    """a: id, b: target slot, c: max_idle, d: gen and whether the init_query is opaque, x: borrow timeout, y: idle timeout, z: life,
    text: database, p: Terms."""
    cdef Terms *terms = <Terms*>m.p
    cdef Pool *q
    cdef Server *s
    cdef int gen = <int>(m.d >> 1)
    if not _room_for_pool(r, m.a):
        return
    q = r.pools[m.a]
    if q == NULL:
        q = pool_new(<int>m.a, &r.targets[m.b])
        if q == NULL:
            return
        q.gen = gen
        q.empty_since = r.now
        r.pools[m.a] = q
    q.max_idle = <int>m.c
    q.borrow_timeout = seconds(m.x)
    q.idle_timeout = seconds(m.y)
    q.life = seconds(m.z)
    q.audit_after = terms.audit_after
    q.ignored = terms.ignored
    q.refused = terms.refused
    q.max_prepared = terms.max_prepared
    strncpy(&q.database[0], <char*>m.text, 63)
    q.init_opaque = m.d & 1
    if q.gen != gen:
        q.gen = gen
        q.failures = 0
        q.retry_at = 0
        q.vacate_until = 0           # the number may serve another database now
        while not list_empty(&q.idle):
            s = <Server*>chan_of_place(q.idle.next)
            server_close(r, s, CloseReason.SERVER_CONFIG_CHANGED, NULL)


cdef void _discard_client(Relay_ *r, Client *c) noexcept nogil:
    """A handed-over client that cannot be adopted."""
    tell(r, EVENT_CLIENT_CLOSED, c.slot, CloseReason.CLIENT_SHUTDOWN, c.endpoint | (<int64_t>c.tls_on << 32), c.about, c.about_size)
    chan_close(&c.ch)
    c.engine.client_end(r, c)
    free(c.about)
    free(c)


cdef Line *_line(Relay_ *r, uint64_t timeout) noexcept nogil:
    """The line of the clients with this idle timeout. There are as many as the configuration has different values."""
    cdef int i
    for i in range(r.n_lines):
        if r.lines[i].timeout == timeout:
            return &r.lines[i]
    if r.n_lines == 32:
        return &r.lines[31]
    list_init(&r.lines[r.n_lines].clients)
    r.lines[r.n_lines].timeout = timeout
    r.n_lines += 1
    return &r.lines[r.n_lines - 1]


cdef void _mail_client(Relay_ *r, Letter *m) noexcept nogil:
    """p: Client, a: pool id, text: what it was told (b bytes), the settings it began with (c bytes), and its unread input."""
    cdef Client *c = <Client*>m.p
    cdef Pool *q = _pool(r, m.a)
    m.p = NULL
    if (
        not c.engine.client_begin(r, c, m.text, m.b, m.text + m.b, m.c) or q == NULL or not _room_for_slot(r, c.slot)
        or (m.size > m.b + m.c and chan_keep(&c.ch, m.text + m.b + m.c, m.size - m.b - m.c) < 0)
    ):
        _discard_client(r, c)
        return
    c.pool = q
    c.ep = shm_endpoint(&r.shm, r.worker, c.endpoint)
    c.connected_at = r.now
    c.active_at = r.now
    if c.life_ends:
        c.life_ends += r.now
    if not poller_add(r.epoll_fd, c.ch.fd, &c.ch, True):
        _discard_client(r, c)
        return
    r.slots[c.slot] = c
    r.n_clients += 1
    q.n_clients += 1
    list_append(&r.clients, &c.age)
    c.line = _line(r, c.idle_timeout)
    list_append(&c.line.clients, &c.activity)
    c.resume = 1
    schedule(r, &c.ch)
    if r.stopping:
        client_end(r, c, CloseReason.CLIENT_SHUTDOWN)


cdef void _mail_server(Relay_ *r, Letter *m) noexcept nogil:
    """p: Server, a: pool id, text: as of a client."""
    cdef Server *s = <Server*>m.p
    cdef Pool *q = _pool(r, m.a)
    cdef Target *t
    m.p = NULL
    if (
        not s.engine.server_begin(r, s, m.text, m.b, m.text + m.b, m.c) or q == NULL
        or not poller_add(r.epoll_fd, s.ch.fd, &s.ch, True)
        or (m.size > m.b + m.c and chan_keep(&s.ch, m.text + m.b + m.c, m.size - m.b - m.c) < 0)
    ):
        if q != NULL:
            pool_opening_ended(r, q, s.permit, False)
        chan_close(&s.ch)
        s.engine.server_end(r, s)
        free(s)
        return
    t = q.target
    pool_opening_ended(r, q, s.permit, True)
    q.failures = 0
    q.retry_at = 0
    s.pool = q
    s.target = t
    s.gen = q.gen
    s.id = r.next_server
    r.next_server += 1
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
    """a: pool id, b: permit, c: permanent?, text: the message for those who wait."""
    cdef Pool *q = _pool(r, m.a)
    cdef Client *c
    if q == NULL:
        return
    pool_opening_ended(r, q, <int>m.b, False)
    pool_open_failed(q, r.now)
    if m.c:
        while not list_empty(&q.waiting):
            c = <Client*>chan_of_place(q.waiting.next)
            if m.size:
                # the database's own words; they end the session there as they do here
                c.closing_as = CloseReason.SERVER_LOGIN_FAILED
                chan_send(&c.ch, m.text, m.size)
            client_end(r, c, CloseReason.SERVER_LOGIN_FAILED)
    target_serve(r, q.target)


cdef void letters_read(Relay_ *r) noexcept nogil:
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
            free(m.p)
        elif m.kind == MAIL_CLIENT:
            _mail_client(r, m)
        elif m.kind == MAIL_SERVER:
            _mail_server(r, m)
        elif m.kind == MAIL_SERVER_FAILED:
            _mail_server_failed(r, m)
        elif m.kind == MAIL_WANT:
            q = _pool(r, m.a)
            if q != NULL and not q.wanted and q.n_opening == 0:
                q.wanted = 1
                q.wanted_since = r.now
                pool_grow(r, q)
        elif m.kind == MAIL_CANCEL:
            session_cancel(r, <int>m.a, m.text, m.size, <uint64_t>m.c)
        elif m.kind == MAIL_CANCEL_TO:
            message.kind = MESSAGE_CANCEL
            message.slot = <int>m.b
            message.key_size = <uint32_t>m.size
            message.heard = <uint64_t>m.c
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
            r.drain_ends = r.now + seconds(m.x)
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
                c = client_of_age(at)
                at = at.next
                if c.endpoint == m.a:
                    c.expired = CloseReason.ENDPOINT_REMOVED
                    if c.server != NULL:
                        session_settle(r, c.server)          # pinned, but between transactions
                    elif c.state != CLIENT_WAITING:
                        client_end(r, c, CloseReason.ENDPOINT_REMOVED)
        elif m.kind == MAIL_DUMP:
            if m.b == 0:
                dump_clients(r, m.a)
            elif m.b == 1:
                dump_servers(r, m.a)
            elif m.b == 3:
                dump_pins(r, m.a)
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


cdef Server *_server_by_id(Relay_ *r, uint32_t id) noexcept nogil:
    """Cold: only answers to cancel requests look a server up."""
    cdef int i
    cdef Link *at
    for i in range(r.n_pools):
        if r.pools[i] == NULL:
            continue
        at = r.pools[i].servers.next
        while at != &r.pools[i].servers:
            if server_of_age(at).id == id:
                return server_of_age(at)
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
            s = <Server*>chan_of_place(q.idle.next)
            q.n_idle -= 1
            server_free(r, s)
        pool_grow(r, q)


# ---------------------------------------------------------------- messages from other workers

cdef void neighbours_read(Relay_ *r) noexcept nogil:
    cdef uint64_t buffer[15]
    cdef uint32_t kind
    cdef int i, n
    cdef CancelMessage *cancel
    for i in range(r.shm.workers):
        if i == r.worker:
            continue
        while True:
            n = ring_pop(&r.shm, r.worker, i, &buffer[0])
            if n == 0:
                break
            kind = (<uint32_t*>&buffer[0])[0]
            if kind == MESSAGE_CANCEL and n == <int>sizeof(CancelMessage) and (<CancelMessage*>&buffer[0]).key_size <= 32:
                cancel = <CancelMessage*>&buffer[0]
                session_cancel(r, cancel.slot, &cancel.key[0], cancel.key_size, cancel.heard)
            elif kind == MESSAGE_DROP_DATABASE and n == <int>sizeof(DropMessage) and 0 <= (<DropMessage*>&buffer[0]).target < 64:
                (<DropMessage*>&buffer[0]).database[63] = 0
                drop_database(r, &r.targets[(<DropMessage*>&buffer[0]).target], &(<DropMessage*>&buffer[0]).database[0])
    janitor_targets(r)
