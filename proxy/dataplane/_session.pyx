"""A client and the server connection it borrows: the pair's whole life, and every reason it can end for.

Pair rules (client side x server side):

* nothing owed, status idle, no half-sent message, no open batch, not pinned -> give back (`session_settle`)
* client gone, server idle in a transaction            -> rolled back, then given back (`SERVER_CLEANUP`, with a deadline)
* client gone, answers owed                            -> cancel the statement, swallow the answers, then as above
* client gone while it sends data                      -> its engine fails that: the data never commits (edge case 37)
* client gone pinned, in half a message or batch       -> close: an end of ours would commit its work
* server lost, client waiting for an answer            -> the server's own words, or ServerLost; the client is closed
* cancel request under way, server proven idle         -> SERVER_HELD until it can no longer hit (edge case 54)
* server no longer wanted                              -> half-closed; its permit is free when the database has closed, too

Nothing here reads a socket, and nothing recurses into reading: who has something to do is put on `Relay.ready` and is
visited in the same turn. Closed objects rest on `Relay.graves` until the turn ends, because the turn's events name them.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport strcmp, strlen

from proxy._reasons cimport CloseReason
from proxy._wire cimport iobuf_free, iobuf_len
from proxy.dataplane._chan cimport chan_close, chan_half_close, chan_send, chan_unsent
from proxy.dataplane._events cimport EVENT_CANCEL, EVENT_CLIENT_CLOSED, EVENT_FORGET, EVENT_OPEN, EVENT_SERVER_CLOSED, tell
from proxy.dataplane._pins cimport pins_ask, pins_forget, pins_rest, pins_soon
from proxy.dataplane._pool cimport (
    pool_dequeue, pool_drop, pool_enqueue, pool_longest_waiter, pool_may_grow, pool_openings_due, pool_put_idle,
    pool_should_yield, pool_take_idle, target_longest_idle,
)
from proxy.dataplane._state cimport (
    ABANDONED_ASKED, ABANDONED_BOUND, ABANDONED_DOUBTFUL, ABANDONED_HALF, ABANDONED_UNKNOWN, CANCEL_DROP, CANCEL_NOW,
    CLIENT_CLOSING, CLIENT_LINGERING, CLIENT_READY, CLIENT_WAITING, Cancel_, Chan, Client, Pool, REFUSE_NEXT, REFUSE_NONE, Relay_,
    SERVER_BUSY, SERVER_CLEANUP, SERVER_HELD, SERVER_IDLE, SERVER_PARTING, Server, Target, Words, linked, list_append, list_empty,
    list_remove,
)
from proxy.shm._fields cimport (
    EP_BORROW_TIMEOUTS, EP_CANCELS_DROPPED, EP_CANCELS_FORWARDED, EP_CLIENT_CLOSES, EP_CLIENTS_WAITING,
    EP_DATABASE_CONNECTIONS_BORROW_LATENCY, EP_TRANSACTIONS, TG_CLOSES, TG_DATABASE_CONNECTIONS,
    TG_DATABASE_CONNECTIONS_CURRENTLY_BORROWED, TG_DATABASE_CONNECTIONS_CURRENTLY_IN_TRANSACTION,
    TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED, TG_DATABASE_CONNECTIONS_WITH_TLS,
)
from proxy.shm._segment cimport (
    histogram_add, longest_want, permit_give, permit_take, shm_wake, want_set, word_add,
)

cdef enum Limits_:
    LINGER_MS = 1000             # a client that was told why gets this long to read it
    CLEANUP_MS = 5000            # rollback or draining of an abandoned query
    VACATE_MS = 5000             # a server may wait so long for the sessions of a database that is dropped or copied
    PARTING_MS = 2000            # for the database to close a connection it was told to
    CANCELS_PER_SERVER = 4       # under way at once: more would tell the database nothing new


cdef void schedule(Relay_ *r, Chan *ch) noexcept nogil:
    """To be visited in this turn (again, if it is being visited now)."""
    if ch.fd >= 0:
        list_append(&r.ready, &ch.ready)


# ---------------------------------------------------------------- borrow and give back

cdef void _attach(Relay_ *r, Client *c, Server *s) noexcept nogil:
    s.client = c
    s.state = SERVER_BUSY
    s.borrows += 1
    c.server = s
    c.state = CLIENT_READY
    c.sent_at = r.now
    word_add(s.pool.target.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_BORROWED, 1)
    histogram_add(c.ep + EP_DATABASE_CONNECTIONS_BORROW_LATENCY, (r.now - c.asked_at) // 1000)
    c.engine.attach(r, c, s)


cdef void _detach(Relay_ *r, Server *s) noexcept nogil:
    cdef Client *c = s.client
    if c == NULL:
        return
    s.client = NULL
    c.server = NULL
    s.engine.detach(s)
    word_add(s.pool.target.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_BORROWED, -1)
    if s.pinned:
        s.pinned = 0
        word_add(s.pool.target.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_SESSION_PINNED, -1)


cdef bint session_borrow(Relay_ *r, Client *c) noexcept nogil:
    """A server for `c` now (True), or `c` waits in line."""
    cdef Pool *pool = c.pool
    cdef Server *s = NULL
    c.asked_at = r.now
    if not pool.target.paused and list_empty(&pool.waiting):
        s = pool_take_idle(pool)
    if s != NULL:
        _attach(r, c, s)
        return True
    if pool.borrow_timeout == 0:
        # 0 means: an idle connection now or an error, even if the pool could grow (spec, ConnectionBorrowTimeout)
        word_add(c.ep + EP_BORROW_TIMEOUTS, 1)
        client_refuse(r, c, CloseReason.BORROW_TIMEOUT)
        return False
    c.state = CLIENT_WAITING
    pool_enqueue(pool, c)
    word_add(c.ep + EP_CLIENTS_WAITING, 1)
    pool_grow(r, pool)
    return False


cdef void _leave_queue(Client *c) noexcept nogil:
    pool_dequeue(c.pool, c)
    word_add(c.ep + EP_CLIENTS_WAITING, -1)
    c.state = CLIENT_READY


cdef bint _provably_idle(const Server *s) noexcept nogil:
    """The general rule behind all edge cases: every reply has come, the buffer is empty, the server says that it is idle."""
    return (
        not s.ch.readable and not s.ch.broken and iobuf_len(&s.ch.tail) == 0 and chan_unsent(&s.ch) == 0
        and s.engine.server_idle(s)
    )


cdef bint client_quiet(const Client *c) noexcept nogil:
    """Between transactions, with nothing begun: closing now loses nothing that was acknowledged or asked for."""
    return (
        c.state == CLIENT_READY and c.server == NULL and c.refusing == REFUSE_NONE and iobuf_len(&c.ch.tail) == 0
        and c.engine.client_between(c)
    )


cdef void _transaction_over(Relay_ *r, Client *c) noexcept nogil:
    """`c` has no server any more and has been answered: on to its next request, or to its end if that has been waiting."""
    word_add(c.ep + EP_TRANSACTIONS, 1)
    if c.expired:
        client_end(r, c, c.expired)
    elif r.draining and iobuf_len(&c.ch.tail) == 0 and not c.ch.readable:
        client_end(r, c, CloseReason.CLIENT_DRAINED)
    elif iobuf_len(&c.ch.tail) or c.ch.readable:
        c.resume = 1
        schedule(r, &c.ch)


cdef void session_settle(Relay_ *r, Server *s) noexcept nogil:
    """Called whenever something ended: gives the server back if that is proven safe, else does nothing."""
    cdef Client *c = s.client
    if s.state == SERVER_CLEANUP:
        session_cleanup_step(r, s)
        return
    if s.state != SERVER_BUSY or not _provably_idle(s):
        return
    if c.resume or not c.engine.client_between(c):
        return
    if not c.engine.part(r, c, s):
        return                   # comes back here when the answer has come
    if c.pins or c.engine.bound(c):
        if c.expired:
            client_end(r, c, c.expired)
            return
        pins_rest(r, c)
        if pins_soon(r, c):
            session_audit(r, c, False)
        return
    _detach(r, s)
    _transaction_over(r, c)
    if s.cancels:
        s.state = SERVER_HELD
        list_append(&r.held, &s.place)
    else:
        server_free(r, s)


cdef void session_audit(Relay_ *r, Client *c, bint thorough) noexcept nogil:
    """Between two transactions of a pinned client: is anything left of what has pinned?"""
    cdef Server *s = c.server
    if (
        s != NULL and s.state == SERVER_BUSY and _provably_idle(s) and c.engine.client_between(c) and not c.resume
        and not c.engine.bound(c)
    ):
        pins_ask(r, c, s, thorough)


cdef void server_free(Relay_ *r, Server *s) noexcept nogil:
    """Proven idle and nobody's: to the longest waiter, else to the idle stack, else closed."""
    cdef Pool *pool = s.pool
    cdef Client *c
    cdef int unfit
    list_remove(&s.place)
    s.state = SERVER_HELD        # on no list until decided
    if s.engine.server_cut(s) or iobuf_len(&s.ch.tail):
        session_unsettle(r, s)
        return
    unfit = s.condemned if s.condemned else s.engine.server_unfit(s)
    if unfit:
        server_close(r, s, unfit, NULL)
        return
    if s.gen != pool.gen:
        server_close(r, s, CloseReason.SERVER_CONFIG_CHANGED, NULL)
        return
    if r.stopping:
        server_close(r, s, CloseReason.SERVER_SHUTDOWN, NULL)
        return
    if r.now >= s.life_ends:
        server_close(r, s, CloseReason.SERVER_LIFE_REACHED, NULL)
        return
    c = NULL if pool.target.paused else pool_longest_waiter(pool)
    if c == NULL and r.now < pool.vacate_until:
        server_close(r, s, CloseReason.SERVER_DATABASE_DROPPED, NULL)
        return
    # a fresh one serves whom it was opened for first, or logins could be all that the database ever sees
    if (s.borrows or c == NULL or pool.target.surplus > 0) and pool_should_yield(r, pool):
        server_close(r, s, CloseReason.SERVER_PERMIT_WANTED, NULL)
        if pool.target.wanting:
            target_serve(r, pool.target)
        return
    if c == NULL:
        pool_put_idle(pool, s, r.now)
        return
    _leave_queue(c)
    _attach(r, c, s)
    c.resume = 1
    schedule(r, &c.ch)


# ---------------------------------------------------------------- growth, permits

cdef void pool_grow(Relay_ *r, Pool *pool) noexcept nogil:
    """Asks the front for as many connections as are due and permitted."""
    cdef Target *t = pool.target
    cdef Server *s
    cdef int permit, i
    cdef int due = pool_openings_due(pool, r.now)
    if r.stopping:
        return
    while due > 0 and pool_may_grow(r, pool):
        permit = permit_take(&r.shm, t.slot, r.worker)
        if permit < 0:
            # one for each that is due; target_serve takes the permits when they come back
            while t.parting < due:
                s = target_longest_idle(r, t, pool)
                if s == NULL:
                    break
                server_close(r, s, CloseReason.SERVER_PERMIT_WANTED, NULL)
            break
        t.held += 1
        pool.n_opening += 1
        due -= 1
        tell(r, EVENT_OPEN, pool.id, permit, 0, NULL, 0)
    if due > 0 and not t.wanting:
        t.wanting = 1
        want_set(&r.shm, t.slot, r.worker, r.now)
        for i in range(r.shm.workers):
            if i != r.worker:
                shm_wake(&r.shm, i)


cdef void _permit_back(Relay_ *r, Target *t, int permit) noexcept nogil:
    cdef int other
    permit_give(&r.shm, t.slot, permit)
    t.held -= 1
    other = longest_want(&r.shm, t.slot, -1)
    if other >= 0:
        shm_wake(&r.shm, other)


cdef void pool_opening_ended(Relay_ *r, Pool *pool, int permit, bint keep) noexcept nogil:
    pool.n_opening -= 1
    pool.wanted = 0
    if not keep:
        _permit_back(r, pool.target, permit)


cdef void target_serve(Relay_ *r, Target *t) noexcept nogil:
    """Permits may have become free: let the pools grow, the longest waiter's first, and withdraw the want if nobody needs it."""
    cdef Pool *q
    cdef Pool *first
    cdef Client *c
    cdef uint64_t since, oldest
    cdef int i
    cdef bint needy = False
    first = NULL
    oldest = 0
    for i in range(r.n_pools):
        q = r.pools[i]
        if q == NULL or q.target != t or pool_openings_due(q, r.now) == 0:
            continue
        c = pool_longest_waiter(q)
        since = q.wanted_since if c == NULL else c.asked_at
        if first == NULL or since < oldest:
            first = q
            oldest = since
    if first != NULL:
        pool_grow(r, first)
        for i in range(r.n_pools):
            q = r.pools[i]
            if q == NULL or q.target != t:
                continue
            if q != first and pool_openings_due(q, r.now) > 0:
                pool_grow(r, q)
        pool_grow(r, first)      # what the others had no right to
        for i in range(r.n_pools):
            q = r.pools[i]
            if q == NULL or q.target != t or pool_openings_due(q, r.now) == 0:
                continue
            c = pool_longest_waiter(q)
            since = q.wanted_since if c == NULL else c.asked_at
            if not needy or since < oldest:
                oldest = since
            needy = True
    if t.wanting:
        # what the others see: since when our longest waiter waits
        t.wanting = needy
        want_set(&r.shm, t.slot, r.worker, oldest if needy else 0)


cdef void target_give_up(Relay_ *r, Target *t, uint64_t idle_for) noexcept nogil:
    """Another worker wants a permit: close what is more than our share, and one that has been idle for at least `idle_for`."""
    cdef Server *s
    while longest_want(&r.shm, t.slot, r.worker) >= 0:
        s = target_longest_idle(r, t, NULL)
        if s == NULL:
            return
        if not pool_should_yield(r, s.pool):
            if r.now - s.idle_since >= idle_for and t.parting == 0:
                server_close(r, s, CloseReason.SERVER_PERMIT_WANTED, NULL)
            return
        server_close(r, s, CloseReason.SERVER_PERMIT_WANTED, NULL)


# ---------------------------------------------------------------- cancel

cdef bint _same_key(const uint8_t *a, const uint8_t *b, Py_ssize_t n) noexcept nogil:
    """In constant time."""
    cdef uint8_t difference = 0
    cdef Py_ssize_t i
    for i in range(n):
        difference |= a[i] ^ b[i]
    return difference == 0


cdef void session_cancel(Relay_ *r, int slot, const uint8_t *key, Py_ssize_t size, uint64_t heard) noexcept nogil:
    """A CancelRequest for one of our clients. What does not match exactly is dropped without an answer, as the protocol demands.

    `heard`: when the doorman took it. The one who sent it was told so at once, and may have asked its next question before
    the request got here: that one it does not mean.
    """
    cdef Client *c
    cdef Cancel_ cancel = CANCEL_DROP
    if slot < 0 or slot >= r.n_slots:
        return
    c = r.slots[slot]
    if c == NULL or size != c.key_size or not _same_key(key, &c.key[0], size):
        return
    if heard < c.asked_at:
        word_add(c.ep + EP_CANCELS_DROPPED, 1)
    elif c.state == CLIENT_WAITING:
        # nothing has been sent to any server yet: the request just leaves the line
        word_add(c.ep + EP_CANCELS_FORWARDED, 1)
        _leave_queue(c)
        client_refuse(r, c, CloseReason.CLOSE_NONE)
    else:
        if c.server != NULL and c.server.cancels < CANCELS_PER_SERVER and c.server.key_size:
            cancel = c.engine.cancel(c.server)
        word_add(c.ep + (EP_CANCELS_DROPPED if cancel == CANCEL_DROP else EP_CANCELS_FORWARDED), 1)
        if cancel == CANCEL_NOW:
            session_cancel_now(r, c.server)


cdef void session_cancel_now(Relay_ *r, Server *s) noexcept nogil:
    """What it is doing is the client's, and is to be canceled."""
    s.cancels += 1
    tell(r, EVENT_CANCEL, s.id, s.pool.id, s.backend_pid, &s.key[0], s.key_size)


cdef void session_cancel_done(Relay_ *r, Server *s) noexcept nogil:
    """The database has taken a cancel request: from now on it cannot hit a later query."""
    if s.cancels:
        s.cancels -= 1
    if s.cancels:
        return
    if s.state == SERVER_HELD and linked(&s.place):
        server_free(r, s)
    elif s.state == SERVER_CLEANUP:
        session_cleanup_step(r, s)
    elif s.client != NULL:
        s.client.resume = 1      # its next request was held back
        schedule(r, &s.client.ch)


# ---------------------------------------------------------------- the server after its client left

cdef void _abandon(Relay_ *r, Server *s, bint polite) noexcept nogil:
    """The client of `s` is gone. Undo what can be undone safely, else close.

    `polite`: it said Terminate. What it asked for before that is carried out, as a server without a proxy would.
    """
    cdef Client *c = s.client
    cdef int left = c.engine.abandon(r, c, s)
    cdef bint half = (left & ABANDONED_HALF) != 0
    cdef bint doubtful = left & ABANDONED_DOUBTFUL or s.ch.broken or chan_unsent(&s.ch)
    cdef bint pinned = c.pins != 0 or left & ABANDONED_BOUND
    cdef bint asked = (left & ABANDONED_ASKED) != 0
    _detach(r, s)
    if left & ABANDONED_UNKNOWN and not s.condemned:
        s.condemned = CloseReason.SERVER_STATE_UNKNOWN
    if asked and s.key_size and not polite:
        session_cancel_now(r, s)
    if half or doubtful or (pinned and not asked):
        server_close(
            r, s, CloseReason.SERVER_CLIENT_LEFT if half else (
                CloseReason.SERVER_DOUBTFUL if doubtful else CloseReason.SERVER_CLIENT_LEFT_PINNED
            ), NULL,
        )
        return
    session_unsettle(r, s)
    if pinned:
        s.condemned = CloseReason.SERVER_CLIENT_LEFT_PINNED
    if polite and asked:
        list_append(&r.held, &s.place)       # however long it takes
    session_cleanup_step(r, s)
    if s.ch.fd >= 0 and s.ch.readable:
        schedule(r, &s.ch)


cdef void session_unsettle(Relay_ *r, Server *s) noexcept nogil:
    """Nobody's, but not proven idle: there is something to undo, or half of an asynchronous message has come, whose other half
    would arrive in the middle of the next client's answers (edge case 6). Not for long: see _cleanups in _janitor."""
    if s.state == SERVER_IDLE:
        s.pool.n_idle -= 1
    s.state = SERVER_CLEANUP
    s.cleanup_stage = 0
    s.cleanup_bytes = 0
    s.cleanup_ends = r.now + <uint64_t>CLEANUP_MS * 1000000
    list_append(&r.cleanups, &s.place)


cdef void session_cleanup_step(Relay_ *r, Server *s) noexcept nogil:
    """Where is the abandoned server now, and what is the next step towards a proven idle state?"""
    cdef int step = 0
    if s.engine.server_owed(s) or not (s.engine.server_cut(s) or s.cancels or s.ch.readable or iobuf_len(&s.ch.tail)):
        step = s.engine.cleanup(r, s)
    if step < 0 or (step > 0 and not _provably_idle(s)):
        server_close(r, s, CloseReason.SERVER_DOUBTFUL, NULL)
    elif step > 0:
        server_free(r, s)


# ---------------------------------------------------------------- ends

cdef void client_close(Relay_ *r, Client *c, int reason) noexcept nogil:
    """At once and for good. The object rests on `graves`."""
    cdef Server *s = c.server
    if c.ch.fd < 0:
        return
    if c.closing_as:
        reason = c.closing_as    # the reason for which its end began
    if c.state == CLIENT_WAITING:
        _leave_queue(c)
    if s != NULL:
        _abandon(r, s, reason == CloseReason.CLIENT_TERMINATED)
    list_remove(&c.ch.ready)
    list_remove(&c.activity)
    list_remove(&c.age)
    r.slots[c.slot] = NULL
    r.n_clients -= 1
    c.pool.n_clients -= 1
    c.pool.empty_since = r.now
    word_add(c.ep + EP_CLIENT_CLOSES + reason, 1)
    tell(r, EVENT_CLIENT_CLOSED, c.slot, reason, c.endpoint | (<int64_t>c.tls_on << 32), c.about, c.about_size)
    chan_close(&c.ch)
    pins_forget(r, c)
    c.engine.client_end(r, c)
    free(c.about)
    c.about = NULL
    list_append(&r.graves, &c.place)


cdef void client_end(Relay_ *r, Client *c, int reason) noexcept nogil:
    """Tells the client why (where there is something to tell), lets it read that, then closes."""
    # half a message of its server has gone out: a text of ours would be read as the rest of it
    cdef bint cut = c.server != NULL and c.engine.server_cut(c.server)
    cdef const Words *words = &r.words[c.engine.number]
    if c.ch.fd < 0 or c.state == CLIENT_CLOSING or c.state == CLIENT_LINGERING:
        return
    if c.state == CLIENT_WAITING:
        _leave_queue(c)
    if c.server != NULL:
        _abandon(r, c.server, False)
    if words.errors[reason] != NULL and not cut:
        chan_send(&c.ch, words.errors[reason], words.error_size[reason])
    c.closing_as = <uint8_t>reason
    c.state = CLIENT_CLOSING
    c.closing_ends = r.now + <uint64_t>LINGER_MS * 1000000
    iobuf_free(&c.ch.tail)
    list_append(&r.closing, &c.place)
    schedule(r, &c.ch)


cdef void client_refuse(Relay_ *r, Client *c, int reason) noexcept nogil:
    """The request in its tail gets an error instead of an answer; the session goes on."""
    c.refusing = REFUSE_NEXT
    c.refuse_with = <uint8_t>reason
    c.resume = 1
    schedule(r, &c.ch)


cdef void server_close(Relay_ *r, Server *s, int reason, const char *why) noexcept nogil:
    """For good: out of its pool now, with a goodbye where the server can read one. `s` must not be lent.

    Its permit comes back when the database has closed its side: before that its process is still there and counts against the
    database's own limit.
    """
    cdef Pool *pool = s.pool
    cdef Target *t = s.target
    if s.ch.fd < 0 or s.state == SERVER_PARTING:
        return
    _detach(r, s)
    if (
        not s.engine.server_cut(s) and not s.engine.server_dying(s) and not s.ch.broken and not s.ch.hup
        and chan_unsent(&s.ch) == 0 and reason != CloseReason.SERVER_CLIENT_LEFT
    ):
        s.engine.goodbye(s)
    if s.in_transaction:
        s.in_transaction = 0
        word_add(t.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_IN_TRANSACTION, -1)
    word_add(t.tg + TG_DATABASE_CONNECTIONS, -1)
    if s.ch.tls != NULL:
        word_add(t.tg + TG_DATABASE_CONNECTIONS_WITH_TLS, -1)
    word_add(t.tg + TG_CLOSES + reason, 1)
    list_remove(&s.ch.ready)
    pool_drop(pool, s)
    pool.empty_since = r.now
    r.n_servers -= 1
    tell(r, EVENT_SERVER_CLOSED, pool.id, s.id, reason, why, 0 if why == NULL else <Py_ssize_t>strlen(why))
    s.engine.server_end(r, s)
    s.pool = NULL
    s.state = SERVER_PARTING
    t.parting += 1
    if t.surplus > 0:
        t.surplus -= 1
    s.cleanup_ends = r.now + <uint64_t>PARTING_MS * 1000000
    list_append(&r.parting, &s.place)
    if s.ch.broken or s.ch.hup or chan_unsent(&s.ch):
        server_gone(r, s)
    else:
        chan_half_close(&s.ch)
        if s.ch.readable:
            schedule(r, &s.ch)


cdef void server_gone(Relay_ *r, Server *s) noexcept nogil:
    """A parting server's socket: the database has closed it, or has taken too long to."""
    cdef Target *t = s.target
    chan_close(&s.ch)
    list_remove(&s.ch.ready)
    t.parting -= 1
    _permit_back(r, t, s.permit)
    list_append(&r.graves, &s.place)
    if t.wanting:
        target_serve(r, t)


cdef void server_lost(Relay_ *r, Server *s, int reason, const char *why) noexcept nogil:
    """The server connection is of no more use; its client, if any, is told and closed, unless it has all its answers already."""
    cdef Client *c = s.client
    # the server's last words have gone to the client, verbatim; or half a message has, behind which nothing would be understood
    cdef bint told = s.engine.server_dying(s) or s.engine.server_cut(s)
    cdef bint unharmed = (
        c != NULL and not told and s.engine.server_idle(s) and c.engine.client_between(c) and not c.pins and not c.engine.bound(c)
    )
    cdef Pool *pool = s.pool
    if s.ch.fd < 0:
        return
    _detach(r, s)
    server_close(r, s, reason, why)
    if unharmed:
        _transaction_over(r, c)
    elif c != NULL:
        if told:
            c.closing_as = CloseReason.SERVER_LOST
            c.state = CLIENT_CLOSING
            c.closing_ends = r.now + <uint64_t>LINGER_MS * 1000000
            iobuf_free(&c.ch.tail)
            list_append(&r.closing, &c.place)
            schedule(r, &c.ch)
        else:
            client_end(r, c, CloseReason.SERVER_LOST)
    if pool.n_waiting:
        pool_grow(r, pool)


cdef void drop_database(Relay_ *r, Target *t, const char *name) noexcept nogil:
    """Idle connections to a database could block its DROP (which may wait up to five seconds for them to go)."""
    cdef Pool *q
    cdef Server *s
    cdef int i
    for i in range(r.n_pools):
        q = r.pools[i]
        if q == NULL or q.target != t or strcmp(q.database, name) != 0:
            continue
        while True:
            s = NULL if list_empty(&q.idle) else pool_take_idle(q)
            if s == NULL:
                break
            s.state = SERVER_HELD
            server_close(r, s, CloseReason.SERVER_DATABASE_DROPPED, NULL)
        q.vacate_until = r.now + <uint64_t>VACATE_MS * 1000000       # for those that are just being cleaned up
        tell(r, EVENT_FORGET, q.id, 0, 0, NULL, 0)
