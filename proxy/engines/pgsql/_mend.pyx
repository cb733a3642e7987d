"""Plan repair: a batch that fails over a stale plan is run once more, and its client sees only that (edge case 29).

After a change of the schema a server refuses to run what it has prepared: 0A000, "cached plan must not change result type". A
statement that was taken from it (a DEALLOCATE in a function) is 26000. The client cannot know, and need not: where the failed
Bind is the first thing in its batch that would be answered, outside of a transaction, nothing has happened. So the bytes of the
batch are kept until its first answer, and read again, as if they had come just now, when the server has forgotten the statement.

Not for a batch that executes without asking for its columns: that client may rely on those it knows, and gets the error that
says they have changed. Not for one with others behind it: their answers would come first.
"""

from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from proxy._wire cimport IoBuf, iobuf_free, iobuf_len, iobuf_put
from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.engines.pgsql._state cimport PgClient, PgServer
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._owed cimport OWED_KIND, OWED_QUERY, OWED_REFUSED, OWED_SWALLOW, OWED_SYNC, owed_at, owed_count

cdef enum Bounds_:
    BATCH_BYTES = 16384          # of one that is kept
    SPARE_BYTES = 1024           # of room that a server keeps for the next one


cdef void mend_begin(const Client *c) noexcept nogil:
    """The first message of a batch is about to go."""
    cdef const PgClient *pc = <const PgClient*>c
    cdef Server *s = c.server
    cdef PgServer *ps = <PgServer*>s
    cdef Py_ssize_t n = owed_count(&ps.be.owed)
    mend_forget(s)
    if (
        not pc.again and ps.be.tx_status == p.TX_IDLE and not ps.be.owed.skipping and not ps.be.owed.in_doubt
        # nothing under way, or only what the proxy asks for itself
        and (n == 0 or owed_at(&ps.be.owed, n - 1) == (OWED_QUERY | OWED_SWALLOW))
    ):
        ps.mend = MEND_KEEPING


cdef void mend_keep(Server *s, const uint8_t *at, Py_ssize_t n, bint ends) noexcept nogil:
    """Of the batch, as the client has sent it. `ends`: with its Sync."""
    cdef PgServer *ps = <PgServer*>s
    if ps.again.end + n > BATCH_BYTES or iobuf_put(&ps.again, at, n) < 0 or (ends and not ps.mend & MEND_BOUND):
        mend_forget(s)
    elif ends:
        ps.mend &= ~MEND_KEEPING


cdef bint mend_wanted(const Server *s) noexcept nogil:
    """An ErrorResponse came, and the queue of replies owed knows of it: is it one of those, and the batch still whole?"""
    cdef const PgServer *ps = <const PgServer*>s
    cdef const uint8_t *state = <const uint8_t*>&ps.be.sqlstate[0]
    if ps.again.end == 0 or ps.mend & MEND_KEEPING or ps.be.fatal or ps.be.owed.answered >= OWED_REFUSED:
        return False
    if owed_count(&ps.be.owed) != 1 or (owed_at(&ps.be.owed, 0) & OWED_KIND) != OWED_SYNC:
        return False
    if memcmp(state, b"26000", 5) == 0:
        return True
    return memcmp(state, b"0A000", 5) == 0 and ps.mend & (MEND_DESCRIBED | MEND_BLIND) == MEND_DESCRIBED


cdef bint mend_again(Relay_ *r, Client *c, Server *s) noexcept nogil:
    """The failed batch is over: its bytes are the next that are read of this client. False without memory."""
    cdef PgClient *pc = <PgClient*>c
    cdef PgServer *ps = <PgServer*>s
    cdef IoBuf tail = c.ch.tail
    cdef bint done
    c.ch.tail = ps.again
    ps.again = IoBuf(data=NULL, pos=0, end=0, cap=0)
    done = iobuf_len(&tail) == 0 or iobuf_put(&c.ch.tail, tail.data + tail.pos, iobuf_len(&tail)) == 0
    iobuf_free(&tail)
    mend_forget(s)
    pc.again = 1
    c.resume = 1
    return done


cdef void mend_free(Server *s) noexcept nogil:
    """It goes back to its pool, or away."""
    cdef PgServer *ps = <PgServer*>s
    mend_forget(s)
    if ps.again.cap > SPARE_BYTES:
        iobuf_free(&ps.again)
