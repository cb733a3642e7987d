"""A client's bytes, on their way to its server: what may go on, what waits, what ends here.

A visit sends once: all messages that may go on are one run of the thread's buffer. A server is borrowed when the first message
is complete, so a slow sender holds nobody's connection; only a message larger than `BORROW_BYTES` borrows half-finished, and
then keeps its server until the message is whole (edge case 4). A Query or Execute up to that size goes on only when it is whole,
also to a server it has.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from proxy._reasons cimport CloseReason, PinReason
from proxy._wire cimport NEED_DATA, Step, VIOLATION, View, iobuf_free, iobuf_put
from proxy.dataplane._chan cimport chan_keep, chan_send, chan_unsent
from proxy.dataplane._pins cimport pins_cause, pins_refused, pins_work
from proxy.dataplane._session cimport (
    DropMessage, MESSAGE_DROP_DATABASE, client_close, client_end, drop_database, schedule, session_borrow, session_settle,
)
from proxy.dataplane._state cimport Client, REFUSE_NEXT, REFUSE_NONE, REFUSE_REST, Relay_, Server, Words
from proxy.engines.pgsql._mend cimport MEND_BLIND, MEND_DESCRIBED, MEND_KEEPING, mend_begin, mend_keep
from proxy.engines.pgsql._prepared cimport (
    PREPARED_FAILED, PREPARED_HOLD, PREPARED_PROBED, PREPARED_UNCHANGED, prepared_begin, prepared_lost, prepared_query,
    prepared_unsure,
)
from proxy.engines.pgsql._state cimport POSTGRESQL_ENGINE, PgClient, PgServer, pg_client, pg_server, tables
from proxy.engines.pgsql._virtual cimport (
    virtual_align, virtual_pinned, virtual_resetting, virtual_sent, virtual_text, virtual_unsure,
)
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._frontend cimport frontend_peek, frontend_step, frontend_unread
from proxy.pgsql._owed cimport COPY_IN, OWED_EFFECT, OWED_REFUSED, owed_count, owed_may_orphan, owed_request
from proxy.pgsql._settings cimport says_temporary
from proxy.pgsql._statements cimport Statement, statement_drop, statement_share
from proxy.shm._fields cimport (
    EP_QUERY_REQUESTS, EP_QUERY_REQUESTS_NO_TLS, EP_QUERY_REQUESTS_TLS, TG_BYTES_TO_SERVERS,
)
from proxy.shm._segment cimport ring_push, shm_wake, word_add
from proxy.sql._lex cimport LEX_DROP_DATABASE, LEX_EFFECTS, LEX_ENDS, LEX_LOCAL, LEX_TRANSACTION_END, lex_database

cdef enum Sizes_:
    SCRATCH_BYTES = 1048576      # translated bytes that are sent before more are made
    # an unfinished message of this size no longer waits for its end before it borrows; what the engine wants to see whole
    # (a Parse, the names of a Bind) is smaller
    BORROW_BYTES = 65536

# after these it is not known what is prepared on the server
cdef uint64_t FORGETS = <uint64_t>1 << <int>PinReason.PIN_DO_BLOCK | <uint64_t>1 << <int>PinReason.PIN_UNREADABLE
cdef uint64_t PINS = 0xFFFFFFFF
# what such a text does is not known, so it may be anything
cdef uint64_t UNREADABLE = <uint64_t>1 << <int>PinReason.PIN_UNREADABLE | <uint64_t>1 << <int>PinReason.PIN_ENCODING
cdef uint64_t TEMPORARY = <uint64_t>1 << <int>PinReason.PIN_TEMPORARY_OBJECT
cdef uint64_t SETTING = <uint64_t>1 << <int>PinReason.PIN_SETTING
cdef uint64_t PREPARED_SQL = <uint64_t>1 << <int>PinReason.PIN_PREPARED_SQL


cdef void _ready_for_query(Client *c) noexcept nogil:
    cdef uint8_t message[6]
    memcpy(&message[0], b"Z\x00\x00\x00\x05I", 6)
    chan_send(&c.ch, &message[0], 6)


cdef bint _refused(Relay_ *r, Client *c, uint8_t kind) noexcept nogil:
    """A request that got no server: answers for the message that just began. True if it is swallowed.

    The protocol's own shape of a failed request: Query and FunctionCall end with ReadyForQuery, the extended messages are
    skipped to Sync, which ends with it (manual, 54.2.3).
    """
    cdef const Words *words
    if c.refusing == REFUSE_NEXT:
        if kind == p.FLUSH or kind == p.COPY_DATA or kind == p.COPY_DONE or kind == p.COPY_FAIL:
            return True
        words = &r.words[<int>POSTGRESQL_ENGINE]
        chan_send(&c.ch, words.errors[c.refuse_with], words.error_size[c.refuse_with])
        if kind == p.QUERY or kind == p.FUNCTION_CALL or kind == p.SYNC:
            c.refusing = REFUSE_NONE
            _ready_for_query(c)
        else:
            c.refusing = REFUSE_REST
        return True
    if kind == p.SYNC:
        c.refusing = REFUSE_NONE
        _ready_for_query(c)
    return True


cdef void _database_goes(Relay_ *r, Client *c) noexcept nogil:
    """DROP DATABASE and its kin pass: idle connections to that database make way, in all workers."""
    cdef PgClient *pc = <PgClient*>c
    cdef DropMessage message
    cdef Py_ssize_t n = 0
    cdef const uint8_t *name = lex_database(&pc.fe.lex, &n)
    cdef int i
    if name == NULL or n <= 0 or n >= 64:
        return
    message.kind = MESSAGE_DROP_DATABASE
    message.target = c.pool.target.slot
    memcpy(&message.database[0], name, n)
    message.database[n] = 0
    drop_database(r, c.pool.target, &message.database[0])
    for i in range(r.shm.workers):
        if i != r.worker and ring_push(&r.shm, r.worker, i, &message, sizeof(DropMessage)) == 0:
            shm_wake(&r.shm, i)


cdef void _count_query(Client *c) noexcept nogil:
    c.queries += 1
    word_add(c.ep + EP_QUERY_REQUESTS, 1)
    word_add(c.ep + (EP_QUERY_REQUESTS_TLS if c.tls_on else EP_QUERY_REQUESTS_NO_TLS), 1)


cdef void _to_server(Relay_ *r, Client *c, const uint8_t *at, const uint8_t *end) noexcept nogil:
    """What has been translated, and behind it the run that goes on as it is: one send."""
    if r.scratch.end:
        if iobuf_put(&r.scratch, at, end - at) < 0:
            c.server.ch.broken = 1           # half of a batch must not go on
        at = r.scratch.data
        end = at + r.scratch.end
    if at < end:
        word_add(c.pool.target.tg + TG_BYTES_TO_SERVERS, end - at)
        chan_send(&c.server.ch, at, end - at)
        if c.server.ch.broken:
            schedule(r, &c.server.ch)
    if r.scratch.cap > SCRATCH_BYTES:
        iobuf_free(&r.scratch)
    r.scratch.end = 0


cdef bint _of_copy(const Client *c, uint8_t kind) noexcept nogil:
    """Part of a stream that the server is waiting for, perhaps: never held back."""
    return (
        kind == p.COPY_DATA or kind == p.COPY_DONE or kind == p.COPY_FAIL or kind == p.FLUSH
        or (kind == p.SYNC and pg_server(c.server).be.owed.copy == COPY_IN)
    )


cdef bint _must_wait(Client *c, uint8_t kind, const View *v, uint32_t length) noexcept nogil:
    """Before a message to the server begins: does it depend on answers that have not come?"""
    cdef PgClient *pc = <PgClient*>c
    cdef Server *s = c.server
    cdef PgServer *ps = <PgServer*>s
    if ps.now != pc.now and ps.be.tx_status != p.TX_FAILED and not pc.unsynced:
        return True                          # its settings cannot be put right while something is under way: see _align
    if virtual_resetting(c) and not pc.unsynced:
        return True
    if not ps.replaying:
        return False
    # Until the settings are known to have arrived, nothing may go that could end the failed block they would leave behind.
    if kind == p.EXECUTE:
        return not pc.portal_known or v.end - v.at < 6 or v.at[5] != 0
    return kind == p.QUERY and v.end - v.at < <Py_ssize_t>length + 1


cdef bint _align(Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at) noexcept nogil:
    """The server is not as the client's session is: what is to go so far, and behind it what makes it so."""
    return iobuf_put(&r.scratch, run, at - run) == 0 and virtual_align(r, c, c.server)


cdef Py_ssize_t _effects(Relay_ *r, Client *c, const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """A whole Query that changes the virtual session is about to go. 0, or -1 without memory."""
    cdef Statement *text = virtual_text(r, c, at + 5, size - 6 if at[size - 1] == 0 else size - 5)
    return 0 if text != NULL and virtual_sent(r, c, text, True) else -1


cdef bint _refuse(
    Relay_ *r, Client *c, const uint8_t *run, const uint8_t *at, Py_ssize_t size, uint32_t *argument,
) noexcept nogil:
    """A whole Query that the pool's policy refuses: something goes in its place that the server refuses, so that the error comes
    in its order and with all that an error does; only its words are ours."""
    cdef PgClient *pc = <PgClient*>c
    cdef uint8_t message[13]
    cdef Statement *text = NULL
    cdef int reason
    if pc.fe.touches & LEX_EFFECTS:
        text = virtual_text(r, c, at + 5, size - 6 if at[size - 1] == 0 else size - 5)
    reason = pins_refused(c, pc.fe.touches, NULL if text == NULL else text.effects)
    if text != NULL:
        statement_drop(&tables(r).statements, text)
    if reason == 0:
        return False
    memcpy(&message[0], b"Q\x00\x00\x00\x0cREFUSED\x00", 13)
    if iobuf_put(&r.scratch, run, at - run) < 0 or iobuf_put(&r.scratch, &message[0], 13) < 0:
        c.server.ch.broken = 1
    pc.fe.touches = 0
    argument[0] = OWED_REFUSED + <uint32_t>reason
    return True


cdef void _process(Relay_ *r, Client *c, uint8_t *buf, Py_ssize_t n) noexcept nogil:
    """The messages in `buf`; what cannot go on yet becomes the tail."""
    cdef PgClient *pc = <PgClient*>c
    cdef View v
    cdef const uint8_t *run = buf            # begin of the bytes that may go on
    cdef Py_ssize_t size
    cdef uint32_t length = 0, argument
    cdef uint8_t kind
    cdef Step step
    cdef Py_ssize_t done
    cdef bint resumed = c.resume
    c.resume = 0                             # whoever sets it from here on means the next visit
    c.hold = 0
    r.scratch.end = 0                        # never another client's bytes, whatever went wrong there
    v.at = buf
    v.end = buf + n
    while v.at < v.end:
        kind = pc.fe.kind
        if r.scratch.end > SCRATCH_BYTES:
            _to_server(r, c, run, v.at)
            run = v.at
            if chan_unsent(&c.server.ch):
                break                        # the server is behind: so must we be
        if kind == 0:
            step = frontend_peek(&v, &length)
            if step == VIOLATION:
                break
            if step == NEED_DATA:
                break
            kind = v.at[0]
            if kind == p.TERMINATE:
                if c.server != NULL:
                    _to_server(r, c, run, v.at)
                client_close(r, c, CloseReason.CLIENT_TERMINATED)
                return
            if c.refusing != REFUSE_NONE:
                pc.swallow = _refused(r, c, kind)
            elif c.server == NULL:
                # stray ends of a COPY that has already failed (edge case 35), and a Flush of nothing
                pc.swallow = kind == p.COPY_DATA or kind == p.COPY_DONE or kind == p.COPY_FAIL or kind == p.FLUSH
                if not pc.swallow:
                    if v.end - v.at < <Py_ssize_t>length + 1 and v.end - v.at < BORROW_BYTES:
                        break
                    if not session_borrow(r, c):
                        break
                    run = v.at
            else:
                if (kind == p.QUERY or kind == p.EXECUTE) and v.end - v.at < min(<Py_ssize_t>length + 1, BORROW_BYTES):
                    break                    # what it does to the session shows only in the whole
                pc.swallow = (
                    (kind == p.COPY_DATA or kind == p.COPY_DONE or kind == p.COPY_FAIL)
                    and owed_count(&pg_server(c.server).be.owed) == 0 and not pg_server(c.server).be.owed.skipping
                    and not pg_server(c.server).be.owed.in_doubt
                )
            if pc.swallow and c.server != NULL:
                _to_server(r, c, run, v.at)
            if not pc.swallow and not _of_copy(c, kind):
                if pg_server(c.server).now != pc.now and not pc.unsynced and pg_server(c.server).be.tx_status != p.TX_FAILED and (
                    owed_count(&pg_server(c.server).be.owed) == 0
                ):
                    if not _align(r, c, run, v.at):
                        client_end(r, c, CloseReason.CLIENT_GONE)
                        return
                    run = v.at
                if owed_may_orphan(&pg_server(c.server).be.owed) or (
                    pg_server(c.server).now != pc.now or pg_server(c.server).replaying or pc.names.n_changes or virtual_unsure(c)
                ) and _must_wait(c, kind, &v, length):
                    c.hold = 1
                    break
        step = frontend_step(&pc.fe, &v, &size)
        if step == VIOLATION or step == NEED_DATA:
            break
        if pc.swallow:
            run = v.at + size
        elif pc.fe.begins:
            done = PREPARED_UNCHANGED
            argument = 0
            r.text = NULL
            if kind == p.PARSE or kind == p.BIND or kind == p.DESCRIBE or kind == p.CLOSE:
                if not pc.unsynced:
                    mend_begin(c)
                done = prepared_begin(r, c, kind, run, v.at, size, v.end, &argument)
            elif kind == p.QUERY and pc.fe.ends:
                r.text = v.at + 5
                r.text_size = size - 6
                if pg_server(c.server).replaying and pc.fe.touches & (LEX_TRANSACTION_END | UNREADABLE):
                    done = PREPARED_HOLD
                elif c.pool.refused and _refuse(r, c, run, v.at, size, &argument):
                    done = size
                elif pc.fe.touches & (LEX_EFFECTS | PREPARED_SQL) and (pc.names.count or pc.names.n_changes):
                    done = prepared_query(r, c, run, v.at, size)
                    if done >= 0:
                        pc.fe.touches &= ~PREPARED_SQL
                if done >= PREPARED_UNCHANGED and pc.fe.touches & LEX_EFFECTS:
                    argument = OWED_EFFECT
                    if _effects(r, c, v.at, size) < 0:
                        done = PREPARED_FAILED
            elif kind == p.EXECUTE:
                if pc.portal != NULL and v.end - v.at > 5 and v.at[5] == 0:
                    argument = OWED_EFFECT
                    statement_share(&tables(r).statements, pc.portal)
                    if not virtual_sent(r, c, pc.portal, False):
                        done = PREPARED_FAILED
                elif v.end - v.at < 6 or v.at[5] != 0:
                    virtual_pinned(c, PINS)          # its Bind has pinned, perhaps before what is to end such pins
                    if pc.named_effects:
                        pins_cause(r, c, SETTING, NULL, 0)
            if done == PREPARED_HOLD or done == PREPARED_PROBED:
                frontend_unread(&pc.fe)
                c.hold = 1
                if done == PREPARED_PROBED:
                    run = v.at
                break
            if done >= 0:
                run = v.at + done
            if done == PREPARED_FAILED or (
                kind != p.PARSE and owed_request(&pg_server(c.server).be.owed, pc.fe.owed, argument) < 0
            ):
                client_end(r, c, CloseReason.CLIENT_PROTOCOL_VIOLATION)
                return
            if not c.busy:
                c.busy = 1
                c.sent_at = r.now
                if c.pin != NULL:
                    pins_work(r, c)
                if not resumed:
                    c.asked_at = r.now
            if kind == p.SYNC:
                pc.unsynced = 0
                pg_server(c.server).batch += 1
            elif kind == p.QUERY:
                if not pg_server(c.server).be.owed.skipping:
                    pc.unsynced = 0
                pg_server(c.server).batch += 1
                statement_drop(&tables(r).statements, pc.unnamed)     # as the server does (edge case 26)
                pc.unnamed = NULL
                pc.unnamed_kept = 0
                pg_server(c.server).unnamed = 0
                _count_query(c)
            elif kind == p.EXECUTE:
                if not pg_server(c.server).mend & MEND_DESCRIBED:
                    pg_server(c.server).mend |= MEND_BLIND
                pc.unsynced = 1
                _count_query(c)
            elif kind == p.FUNCTION_CALL:
                _count_query(c)
            elif kind == p.PARSE or kind == p.BIND or kind == p.DESCRIBE or kind == p.CLOSE:
                if kind == p.DESCRIBE:
                    pg_server(c.server).mend |= MEND_DESCRIBED
                pc.unsynced = 1
        if pc.fe.ends and pc.fe.touches and not pc.swallow:
            if kind == p.QUERY and not pc.fe.begins and pc.fe.touches & LEX_EFFECTS:
                pc.fe.touches |= SETTING              # too long to be read for what it does
            # a name in it, or in the parameters: what is created next may be temporary and not say so
            if pc.fe.touches & LEX_LOCAL and (not pc.fe.begins or says_temporary(v.at + 5, size - 5)):
                pc.fe.touches |= TEMPORARY
            if pc.fe.touches & FORGETS:
                prepared_unsure(c.server)
            if pc.fe.touches & PINS:
                pins_cause(r, c, pc.fe.touches, r.text, r.text_size)
            if pc.fe.touches & LEX_ENDS and c.pin != NULL:
                c.pin.ending = 1
            if pc.fe.touches & LEX_DROP_DATABASE:
                _database_goes(r, c)
        if not pc.swallow and pg_server(c.server).mend & MEND_KEEPING:
            mend_keep(c.server, v.at, size, kind == p.SYNC and pc.fe.ends)
        v.at += size
    if c.ch.fd < 0:
        return
    if c.server != NULL:
        _to_server(r, c, run, v.at)
    if v.at < v.end:
        if pc.fe.fault or (pc.fe.kind == 0 and frontend_peek(&v, &length) == VIOLATION):
            client_end(r, c, CloseReason.CLIENT_PROTOCOL_VIOLATION)
            return
        if chan_keep(&c.ch, v.at, v.end - v.at) < 0:
            client_end(r, c, CloseReason.CLIENT_GONE)
            return
    if c.server != NULL and pg_server(c.server).be.owed.n_lost:
        prepared_lost(r, c, c.server)    # sent behind an error: the server skips it
    if c.server != NULL and owed_count(&pg_server(c.server).be.owed) == 0:
        session_settle(r, c.server)      # the end of a message may have been all that was missing


cdef void client_read(Relay_ *r, Client *c, uint8_t *buf, Py_ssize_t n) noexcept nogil:
    _process(r, c, buf, n)
    pg_client(c).again = 0
