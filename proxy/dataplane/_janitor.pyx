"""What is due by the clock: one function per concern, all called ten times a second with the relay's `now`.

The lists are the timers: each is kept in the order in which its members fall due, so a concern looks at heads only.
Each timeout runs only in its own phase (edge case 14): borrow while waiting, idle while nothing is asked, cleanup after the client
has left.
"""

from libc.stdint cimport uint64_t

from proxy._reasons cimport CloseReason
from proxy.dataplane._events cimport EVENT_DRAINED, EVENT_POOL_EMPTY, tell
from proxy.dataplane._pins cimport pins_later, pins_soon
from proxy.dataplane._pool cimport pool_dequeue, pool_longest_idle, pool_longest_waiter, target_longest_idle
from proxy.dataplane._session cimport (
    client_close, client_end, client_quiet, client_refuse, pool_grow, server_close, server_gone, session_audit, session_settle,
    target_give_up, target_serve,
)
from proxy.dataplane._state cimport (
    CLIENT_CLOSING, CLIENT_LINGERING, CLIENT_READY, CLIENT_WAITING, Client, Line, Link, Pin, Pool, Relay_, SERVER_IDLE, Server,
    Target, chan_of_place, client_of_activity, client_of_age, list_append, list_empty, server_of_age,
)
from proxy.shm._fields cimport EP_BORROW_TIMEOUTS, EP_CLIENTS_WAITING
from proxy.shm._segment cimport limit_get, permits_used, word_add

cdef enum Numbers_:
    PER_TICK = 4096              # clients looked at per concern and tick
    SPARE_MS = 50                # idle for so long: given up when another worker wants a permit
    EMPTY_MS = 60000


cdef void _borrow_timeouts(Relay_ *r, Pool *q) noexcept nogil:
    cdef Client *c
    while True:
        c = pool_longest_waiter(q)
        if c == NULL or r.now - c.asked_at < q.borrow_timeout:
            return
        pool_dequeue(q, c)
        c.state = CLIENT_READY
        word_add(c.ep + EP_CLIENTS_WAITING, -1)
        word_add(c.ep + EP_BORROW_TIMEOUTS, 1)
        client_refuse(r, c, CloseReason.BORROW_TIMEOUT)


cdef void _idle_servers(Relay_ *r, Pool *q) noexcept nogil:
    """max_idle_connections_percent: beyond that many, what has been idle for `idle_timeout` is closed (spec 2.2)."""
    cdef Server *s
    while q.n_idle > q.max_idle:
        s = pool_longest_idle(q)
        if s == NULL or r.now - s.idle_since < q.idle_timeout:
            return
        server_close(r, s, CloseReason.SERVER_IDLE_TIMEOUT, NULL)


cdef void _old_servers(Relay_ *r, Pool *q) noexcept nogil:
    cdef Link *at = q.servers.next
    cdef Server *s
    while at != &q.servers:
        s = server_of_age(at)
        at = at.next
        if r.now - s.opened_at < q.life - q.life // 10:
            return                   # sorted by age, and no life is shortened by more than a tenth
        if s.state == SERVER_IDLE and r.now >= s.life_ends:
            server_close(r, s, CloseReason.SERVER_LIFE_REACHED, NULL)


cdef void _pools(Relay_ *r) noexcept nogil:
    cdef Pool *q
    cdef int i
    cdef bint minute = r.now >= r.minute_at
    if minute:
        r.minute_at = r.now + <uint64_t>10 * 1000000000
    for i in range(r.n_pools):
        q = r.pools[i]
        if q == NULL:
            continue
        if q.n_waiting:
            _borrow_timeouts(r, q)
        if q.n_idle:
            _idle_servers(r, q)
        if q.n_servers:
            _old_servers(r, q)
        if q.n_waiting or q.wanted:
            pool_grow(r, q)
        if (
            minute and q.n_clients == 0 and q.n_servers == 0 and q.n_opening == 0 and not q.wanted
            and r.now - q.empty_since > <uint64_t>EMPTY_MS * 1000000
        ):
            tell(r, EVENT_POOL_EMPTY, q.id, 0, 0, NULL, 0)


cdef void _surplus(Relay_ *r, Target *t) noexcept nogil:
    """After the ceiling was lowered: each worker gives up its part of the excess, idle ones now, the others as they come free."""
    cdef int limit = <int>limit_get(&r.shm, t.slot)
    cdef int used = permits_used(&r.shm, t.slot)
    cdef Server *s
    t.surplus = 0
    if used <= limit:
        return
    # those on their way are still counted among the used
    t.surplus = max(0, ((used - limit) * t.held + used - 1) // used - t.parting)
    while t.surplus > 0:
        s = target_longest_idle(r, t, NULL)
        if s == NULL:
            return
        server_close(r, s, CloseReason.SERVER_PERMIT_WANTED, NULL)


cdef void janitor_targets(Relay_ *r) noexcept nogil:
    """Permits: take what has become free, give up what others want more."""
    cdef int i
    for i in range(r.shm.targets):
        if r.targets[i].wanting:
            target_serve(r, &r.targets[i])
        if r.targets[i].held:
            _surplus(r, &r.targets[i])
            target_give_up(r, &r.targets[i], <uint64_t>SPARE_MS * 1000000)


cdef void _cleanups(Relay_ *r) noexcept nogil:
    cdef Server *s
    while not list_empty(&r.cleanups):
        s = <Server*>chan_of_place(r.cleanups.next)
        if r.now < s.cleanup_ends:
            return
        server_close(r, s, CloseReason.SERVER_CLEANUP_TIMEOUT, b"not brought back to a known state in time")


cdef void _partings(Relay_ *r) noexcept nogil:
    cdef Server *s
    while not list_empty(&r.parting):
        s = <Server*>chan_of_place(r.parting.next)
        if r.now < s.cleanup_ends:
            return
        server_gone(r, s)


cdef void _closings(Relay_ *r) noexcept nogil:
    cdef Client *c
    while not list_empty(&r.closing):
        c = <Client*>chan_of_place(r.closing.next)
        if r.now < c.closing_ends:
            return
        client_close(r, c, CloseReason.CLIENT_GONE)


cdef void _idle_clients(Relay_ *r, Line *line) noexcept nogil:
    cdef Client *c
    cdef int _i
    for _i in range(PER_TICK):
        if list_empty(&line.clients):
            return
        c = client_of_activity(line.clients.next)
        if c.idle_timeout == 0 or r.now - c.active_at < c.idle_timeout:
            return
        list_append(&line.clients, &c.activity)
        if c.state == CLIENT_WAITING or (c.server != NULL and c.engine.server_owed(c.server)):
            c.active_at = r.now      # it waits for us, not we for it
        else:
            client_end(r, c, CloseReason.CLIENT_IDLE_TIMEOUT)


cdef void _old_clients(Relay_ *r) noexcept nogil:
    """Lives may be of any length, so everybody is looked at in turn."""
    cdef Client *c
    cdef int _i
    for _i in range(min(r.n_clients, PER_TICK)):
        c = client_of_age(r.clients.next)
        list_append(&r.clients, &c.age)
        if c.life_ends == 0 or r.now < c.life_ends:
            continue
        c.life_ends = 0
        c.expired = CloseReason.CLIENT_LIFE_REACHED
        if client_quiet(c):
            client_end(r, c, CloseReason.CLIENT_LIFE_REACHED)
        elif c.server != NULL:
            session_settle(r, c.server)      # pinned, but between transactions


cdef void _pinned(Relay_ *r) noexcept nogil:
    cdef Link *at = r.pinned.next
    cdef Client *c
    while at != &r.pinned:
        c = (<Pin*>at).client
        at = at.next
        if pins_later(r, c):
            session_audit(r, c, True)
        elif pins_soon(r, c):
            session_audit(r, c, False)


cdef void _drain(Relay_ *r) noexcept nogil:
    cdef Link *at = r.clients.next
    cdef Client *c
    cdef bint now = r.now >= r.drain_ends
    while at != &r.clients:
        c = client_of_age(at)
        at = at.next
        if c.state == CLIENT_CLOSING or c.state == CLIENT_LINGERING:
            continue
        if now:
            client_end(r, c, CloseReason.CLIENT_SHUTDOWN)
        elif client_quiet(c) and not c.ch.readable:
            client_end(r, c, CloseReason.CLIENT_DRAINED)
    if r.n_clients == 0 and not r.drained_told:
        r.drained_told = 1
        tell(r, EVENT_DRAINED, 0, 0, 0, NULL, 0)


cdef void janitor(Relay_ *r) noexcept nogil:
    cdef int i
    _pools(r)
    janitor_targets(r)
    _cleanups(r)
    _partings(r)
    _closings(r)
    for i in range(r.n_lines):
        _idle_clients(r, &r.lines[i])
    _old_clients(r)
    _pinned(r)
    if r.draining:
        _drain(r)
