"""Which server connection goes to whom: lists and decisions, sans-IO; `now` comes as an argument.

* An idle stack, last used first: few connections stay warm, the others grow old at its end and are closed.
* A queue of waiting clients, first come first served.
* Growth: one opening per waiter at most, and not before the back-off of a failed login is over. A failure never fails the
  waiters (edge case 12): they wait for the next attempt until their borrow timeout.
* Yielding: connections are bounded per target by permits that all workers and pools share. A pool that holds more than its
  share gives one up when somebody else waits without any. Pinned ones are nobody's to share. Where fewer are left than
  workers that want one, these take turns.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

from proxy.dataplane._state cimport (
    Client, Pool, Relay_, SERVER_IDLE, Server, Target, chan_of_place, list_append, list_empty, list_init, list_prepend, list_remove,
)
from proxy.shm._fields cimport TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED
from proxy.shm._segment cimport limit_get, permits_held, shm_target, want_get

cdef enum Growth_:
    MAX_OPENING = 8              # logins under way at once per pool: the server forks a process for each
    BACKOFF_FIRST_MS = 50
    BACKOFF_LAST_MS = 5000
    TURN_MS = 200                # a worker's turn, where fewer connections are left than workers that want one
    OVERDUE_MS = 500             # who has waited so long, and longest, is served whatever the shares say


cdef Pool *pool_new(int id, Target *target) noexcept nogil:
    cdef Pool *p = <Pool*>calloc(1, sizeof(Pool))
    if p == NULL:
        return NULL
    list_init(&p.idle)
    list_init(&p.waiting)
    list_init(&p.servers)
    p.id = id
    p.target = target
    return p


cdef void pool_free(Pool *p) noexcept nogil:
    free(p)


cdef void pool_add(Pool *p, Server *s) noexcept nogil:
    list_append(&p.servers, &s.age)
    p.n_servers += 1


cdef void pool_drop(Pool *p, Server *s) noexcept nogil:
    """Off every list of the pool."""
    if s.state == SERVER_IDLE:
        p.n_idle -= 1
    list_remove(&s.place)
    list_remove(&s.age)
    p.n_servers -= 1


cdef Server *pool_take_idle(Pool *p) noexcept nogil:
    """The one used last, or NULL."""
    cdef Server *s
    if list_empty(&p.idle):
        return NULL
    s = <Server*>chan_of_place(p.idle.next)
    list_remove(&s.place)
    p.n_idle -= 1
    return s


cdef void pool_put_idle(Pool *p, Server *s, uint64_t now) noexcept nogil:
    s.state = SERVER_IDLE
    s.idle_since = now
    list_prepend(&p.idle, &s.place)
    p.n_idle += 1


cdef Server *pool_longest_idle(const Pool *p) noexcept nogil:
    return NULL if list_empty(&p.idle) else <Server*>chan_of_place(p.idle.prev)


cdef void pool_enqueue(Pool *p, Client *c) noexcept nogil:
    list_append(&p.waiting, &c.place)
    p.n_waiting += 1


cdef void pool_dequeue(Pool *p, Client *c) noexcept nogil:
    list_remove(&c.place)
    p.n_waiting -= 1


cdef Client *pool_longest_waiter(const Pool *p) noexcept nogil:
    return NULL if list_empty(&p.waiting) else <Client*>chan_of_place(p.waiting.next)


cdef int pool_openings_due(const Pool *p, uint64_t now) noexcept nogil:
    """How many more connections to open now."""
    cdef int due = p.n_waiting - p.n_opening
    if p.wanted and p.n_opening == 0 and due < 1:
        due = 1
    if due <= 0 or p.target.paused or now < p.retry_at:
        return 0
    # after a failure one attempt at a time finds out
    return min(due, (1 if p.failures else MAX_OPENING) - p.n_opening)


cdef void pool_open_failed(Pool *p, uint64_t now) noexcept nogil:
    cdef uint64_t wait_ms = BACKOFF_FIRST_MS
    cdef int _i
    for _i in range(min(p.failures, 7)):
        wait_ms *= 2
    if p.failures < 255:
        p.failures += 1
    p.retry_at = now + min(wait_ms, <uint64_t>BACKOFF_LAST_MS) * 1000000


cdef Server *target_longest_idle(Relay_ *r, const Target *t, const Pool *besides) noexcept nogil:
    """The connection to this target that has been idle longest in this worker, in any pool but one; or NULL."""
    cdef Server *found = NULL
    cdef Server *s
    cdef Pool *p
    cdef int i
    for i in range(r.n_pools):
        p = r.pools[i]
        if p == NULL or p == besides or p.target != t:
            continue
        s = pool_longest_idle(p)
        if s != NULL and (found == NULL or s.idle_since < found.idle_since):
            found = s
    return found


cdef int _claimants(Relay_ *r, const Target *t) noexcept nogil:
    """Workers among whom the target's connections are to be shared now: this one, and those whose clients wait in vain."""
    cdef int i, n = 1
    for i in range(r.shm.workers):
        if i != r.worker and want_get(&r.shm, t.slot, i) != 0:
            n += 1
    return n


cdef inline int _pinned(Relay_ *r, const Target *t, int worker) noexcept nogil:
    return <int>shm_target(&r.shm, worker, t.slot)[TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED]


cdef bint _above_share(Relay_ *r, const Target *t, int held, bint growing) noexcept nogil:
    """Would `held` connections be more than this worker may have now, given what other workers wait for?"""
    cdef int i, claimants = _claimants(r, t)
    cdef int spare = <int>limit_get(&r.shm, t.slot)
    cdef int loose = held - _pinned(r, t, r.worker)
    cdef uint64_t since, own
    if claimants == 1:
        return False
    for i in range(r.shm.workers):
        spare -= _pinned(r, t, i)
    if spare >= claimants:
        return loose * claimants >= spare + claimants        # loose > ceil(spare / claimants)
    if loose != 1:
        return loose > 1
    # the one: kept for a turn by who has it, taken by who has waited longest
    own = want_get(&r.shm, t.slot, r.worker)
    for i in range(r.shm.workers):
        since = want_get(&r.shm, t.slot, i)
        if i == r.worker or since == 0 or permits_held(&r.shm, t.slot, i) > _pinned(r, t, i):
            continue
        if growing:
            if own == 0 or since < own:
                return True
        elif since + <uint64_t>TURN_MS * 1000000 <= r.now:
            return True
    return False


cdef bint _overdue_elsewhere(Relay_ *r, const Target *t) noexcept nogil:
    """Shares count connections, not how long each is kept: behind a long transaction a worker's share may never come free. A
    client of another worker that has waited too long, and clearly longer than any of ours, comes first."""
    cdef int i
    cdef uint64_t since, own = want_get(&r.shm, t.slot, r.worker)
    for i in range(r.shm.workers):
        since = want_get(&r.shm, t.slot, i)
        if (
            i != r.worker and since != 0 and since + <uint64_t>OVERDUE_MS * 1000000 <= r.now
            and (own == 0 or since + <uint64_t>TURN_MS * 1000000 <= own)
        ):
            return True
    return False


cdef bint _overdue_here(Relay_ *r, const Target *t) noexcept nogil:
    """Then more than our share may be taken, and kept for a turn."""
    cdef uint64_t own = want_get(&r.shm, t.slot, r.worker)
    return own != 0 and own + <uint64_t>OVERDUE_MS * 1000000 <= r.now


cdef int _demanding(Relay_ *r, const Target *t, const Pool *besides) noexcept nogil:
    """Pools of this worker that would open connections if they had permits."""
    cdef Pool *q
    cdef int i, n = 0
    for i in range(r.n_pools):
        q = r.pools[i]
        if q != NULL and q != besides and q.target == t and pool_openings_due(q, r.now) > 0:
            n += 1
    return n


cdef bint pool_should_yield(Relay_ *r, Pool *p) noexcept nogil:
    """A connection of `p` has become free: should it be closed so that somebody who waits without any can connect?

    Between workers: if this one holds more than its share. Between pools of this worker: if `p` holds more than its share, or
    has no use for the connection itself. Either way `pool_may_grow` must not let `p` take the permit straight back.
    """
    cdef Target *t = p.target
    cdef Pool *q
    cdef int i, share, demanding
    if t.surplus > 0:
        return True
    if _claimants(r, t) > 1:
        if _overdue_elsewhere(r, t):
            if r.now - t.yielded_at < <uint64_t>TURN_MS * 1000000:
                return False     # one at a time: this may have been enough
            t.yielded_at = r.now
            return True
        if r.now >= t.turn_ends and not _overdue_here(r, t) and _above_share(r, t, t.held - t.parting, False):
            return True
    if not t.wanting:
        return False
    demanding = _demanding(r, t, NULL)
    if demanding == 0:
        return False
    share = max(1, (t.held - t.parting) // demanding)
    for i in range(r.n_pools):
        q = r.pools[i]
        if (
            q != NULL and q != p and q.target == t and pool_openings_due(q, r.now) > 0
            and q.n_servers + q.n_opening < share and (p.n_waiting == 0 or p.n_servers > share or q.n_servers == 0)
        ):
            return True
    return False


cdef bint _waits_longer(const Pool *q, const Pool *p) noexcept nogil:
    """More pools than permits take turns: the one whose client, or login, came first."""
    cdef const Client *a = pool_longest_waiter(q)
    cdef const Client *b = pool_longest_waiter(p)
    return (q.wanted_since if a == NULL else a.asked_at) < (p.wanted_since if b == NULL else b.asked_at)


cdef bint pool_may_grow(Relay_ *r, Pool *p) noexcept nogil:
    """May `p` take one more permit, or does it belong to another worker or pool? The rule of `pool_should_yield`, seen from the
    other side: what is given up for others must stay given up, or connections would be opened only to be closed again."""
    cdef Target *t = p.target
    cdef const Pool *q
    cdef int i, share, others
    if _overdue_elsewhere(r, t):
        return False
    if _overdue_here(r, t):
        t.turn_ends = r.now + <uint64_t>TURN_MS * 1000000
    elif _above_share(r, t, t.held - t.parting + 1, True):
        return False
    if not t.wanting:
        return True
    others = _demanding(r, t, p)
    if others == 0:
        return True
    share = max(1, (t.held - t.parting + 1) // (others + 1))
    for i in range(r.n_pools):
        q = r.pools[i]
        if (
            q != NULL and q != p and q.target == t and pool_openings_due(q, r.now) > 0
            and q.n_servers + q.n_opening < (share if p.n_servers + p.n_opening >= share else 1)
            and (p.n_servers + p.n_opening >= share or _waits_longer(q, p))
        ):
            return False
    return True
