"""A server's bytes, on their way to its client: counted against the replies owed, forwarded, swallowed or refused.

A result of any size passes through the thread's one buffer. While its client has not taken what it was sent, the server is
not read at all: the kernel's window stops the database, and memory per connection stays bounded (edge case 10). Without a
client (idle, or being cleaned up) everything is understood and swallowed.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from proxy._reasons cimport CloseReason, PinReason
from proxy._wire cimport FORWARD, IoBuf, NEED_DATA, Step, SWALLOW, VIOLATION, View, iobuf_free, iobuf_len, load_u32, store_u32
from proxy.dataplane._chan cimport chan_keep, chan_send
from proxy.dataplane._events cimport EVENT_REFUSED, EVENT_SERVER_FATAL, tell
from proxy.dataplane._pins cimport pins_answered, pins_cause, pins_end
from proxy.dataplane._session cimport (
    client_end, schedule, server_close, server_lost, session_cancel_now, session_settle, session_unsettle,
)
from proxy.dataplane._state cimport (
    BUFFER_BYTES, Client, Relay_, SERVER_CLEANUP, SERVER_IDLE, SERVER_PARTING, Server, Words, list_append,
)
from proxy.engines.pgsql._audit cimport audit_answer
from proxy.engines.pgsql._mend cimport MEND_MENDING, mend_again, mend_forget, mend_wanted
from proxy.engines.pgsql._prepared cimport prepared_answered, prepared_error, prepared_lost, prepared_unsure
from proxy.engines.pgsql._rows cimport rows_answered, rows_described, rows_wanted
from proxy.engines.pgsql._state cimport POSTGRESQL_ENGINE, PgClient, PgServer, tables
from proxy.engines.pgsql._virtual cimport (
    virtual_answer, virtual_complete, virtual_conceals, virtual_given_up, virtual_ready, virtual_suspended,
    virtual_tell_reset, virtual_told,
)
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._backend cimport backend_plain, backend_step
from proxy.pgsql._owed cimport (
    OWED_ASK, OWED_AUDIT, OWED_EFFECT, OWED_QUERY, OWED_REFUSED, OWED_REPLAY, OWED_SWALLOW, OWED_SYNC, owed_argument,
    owed_at, owed_count, owed_request,
)
from proxy.pgsql._params cimport ParamSet, params_drop, params_share, params_with
from proxy.pgsql._settings cimport settings_reportable
from proxy.pgsql._statements cimport Statement, statement_drop, statement_share, statement_text_size
from proxy.shm._fields cimport (
    EP_BYTES_TO_CLIENTS, EP_QUERY_DATABASE_RESPONSE_LATENCY, EP_QUERY_RESPONSE_LATENCY,
    TG_DATABASE_CONNECTIONS_CURRENTLY_IN_TRANSACTION, TG_QUERY_DATABASE_RESPONSE_LATENCY,
)
from proxy.shm._segment cimport histogram_add, word_add

cdef uint64_t TEMPORARY = <uint64_t>1 << <int>PinReason.PIN_TEMPORARY_OBJECT
cdef uint64_t SETTING = <uint64_t>1 << <int>PinReason.PIN_SETTING


cdef bint _whole(const View *v) noexcept nogil:
    """The message at the head is all there; one that is too large to wait for counts as whole, and will be refused."""
    cdef uint32_t length
    if v.end - v.at < 5:
        return False
    length = load_u32(v.at + 1)
    return length > BUFFER_BYTES // 2 or v.end - v.at > <Py_ssize_t>length


cdef void _to_client(Client *c, const uint8_t *at, const uint8_t *end) noexcept nogil:
    if at < end:
        word_add(c.ep + EP_BYTES_TO_CLIENTS, end - at)
        chan_send(&c.ch, at, end - at)


cdef bint _reported(Relay_ *r, Server *s, const uint8_t *message, Py_ssize_t n, bint ours) noexcept nogil:
    """A ParameterStatus: the server's set changes, and with it what its client knows, unless a replay of ours is the cause."""
    cdef PgServer *ps = <PgServer*>s
    cdef Client *c = s.client
    cdef PgClient *pc = <PgClient*>c
    cdef bint alike = c != NULL and pc.told == ps.params
    cdef ParamSet *made = params_with(&tables(r).params, ps.params, message, n)
    if made == NULL:
        return False
    ps.params = made
    if ours:
        return True
    if c != NULL:
        if alike:
            params_drop(&tables(r).params, pc.told)
            pc.told = params_share(made)
        else:                                # something has been concealed from it, and still is
            made = params_with(&tables(r).params, pc.told, message, n)
            if made == NULL:
                return False
            pc.told = made
        pc.fe.std_strings = made.std_strings
        pc.fe.ascii_safe = made.ascii_safe
        if settings_reportable(message, n):
            ps.stirred = ps.reported = 1
    elif s.state == SERVER_IDLE:
        made = params_with(&tables(r).params, ps.born, message, n)    # the configuration of the database has changed
        if made != NULL:
            ps.born = made
    return True


cdef void _ready(Relay_ *r, Server *s) noexcept nogil:
    """A ReadyForQuery came: the virtual session, the transaction gauge and, when all is answered, the latencies."""
    cdef PgServer *ps = <PgServer*>s
    cdef Client *c = s.client
    cdef PgClient *pc = <PgClient*>c
    cdef bint open = ps.be.tx_status != p.TX_IDLE
    cdef uint64_t database_us
    if ps.be.owed.answered == OWED_REPLAY:
        ps.replaying -= 1
        if ps.replaying == 0 and c != NULL:
            virtual_told(r, c, s)
    elif ps.be.owed.answered == OWED_ASK:
        ps.errored = 0
        if c != NULL:
            if pc.asked != NULL:              # an error instead of a row
                virtual_given_up(r, c)
                pins_cause(r, c, SETTING, NULL, 0)
    elif ps.be.owed.answered == OWED_AUDIT:
        ps.errored = 0
        if c != NULL:
            pins_answered(r, c, TEMPORARY if pc.temporary else 0)
    elif ps.stirred or ps.errored or ps.be.owed.answered == OWED_EFFECT:
        virtual_ready(r, c, s)
    if c != NULL and pc.unpin and not open and not ps.stirred:
        pins_end(r, c, pc.unpin)
        pc.unpin = 0
    if ps.cancel_later and (owed_count(&ps.be.owed) == 0 or owed_at(&ps.be.owed, 0) != (OWED_QUERY | OWED_SWALLOW)):
        ps.cancel_later = 0                  # what comes next is the client's, if anything does
        if owed_count(&ps.be.owed):
            session_cancel_now(r, s)
    if open != s.in_transaction:
        s.in_transaction = open
        word_add(s.pool.target.tg + TG_DATABASE_CONNECTIONS_CURRENTLY_IN_TRANSACTION, 1 if open else -1)
    if c != NULL and c.busy and owed_count(&ps.be.owed) == 0:
        c.busy = 0
        c.active_at = r.now                  # idleness begins now
        list_append(&c.line.clients, &c.activity)
        database_us = (r.now - c.sent_at) // 1000
        histogram_add(c.ep + EP_QUERY_RESPONSE_LATENCY, (r.now - c.asked_at) // 1000)
        histogram_add(c.ep + EP_QUERY_DATABASE_RESPONSE_LATENCY, database_us)
        histogram_add(s.pool.target.tg + TG_QUERY_DATABASE_RESPONSE_LATENCY, database_us)
    if c != NULL and c.hold:
        c.hold = 0
        c.resume = 1
        schedule(r, &c.ch)


cdef bint _in_its_words(Client *c, Server *s, const uint8_t *run, const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """An error that names a statement as servers do: the client gets its own name for it. True if it has been sent."""
    cdef IoBuf out
    cdef Py_ssize_t n
    out.data = NULL
    out.pos = out.end = out.cap = 0
    n = prepared_error(c, s, at, size, &out)
    if n > 0:
        _to_client(c, run, at)
        _to_client(c, out.data, out.data + n)
    iobuf_free(&out)
    return n > 0


cdef void _refusal(Relay_ *r, Client *c, uint32_t reason) noexcept nogil:
    cdef const Words *words = &r.words[<int>POSTGRESQL_ENGINE]
    chan_send(&c.ch, words.refusals[reason], words.refusal_size[reason])


cdef void server_read(Relay_ *r, Server *s, uint8_t *buf, Py_ssize_t n) noexcept nogil:
    cdef PgServer *ps = <PgServer*>s
    cdef View v
    cdef const uint8_t *run = buf
    cdef Py_ssize_t size
    cdef Step step = NEED_DATA
    cdef uint8_t kind
    cdef uint32_t argument
    cdef bint settled = False
    cdef bint unasked = False
    cdef bint ours
    cdef bint refused = False                # a replay of ours
    cdef uint64_t pins
    cdef Statement *text
    cdef Client *c = s.client
    cdef PgClient *pc = <PgClient*>c
    v.at = buf
    v.end = buf + n
    while v.at < v.end:
        if not ps.stirred:
            size = backend_plain(&ps.be, &v)
            if size:
                mend_forget(s)
                v.at += size
                if v.at == v.end:
                    break
        kind = ps.be.kind or v.at[0]
        argument = owed_argument(&ps.be.owed)
        if (argument or ps.again.end) and ps.be.kind == 0 and not _whole(&v) and (
            (kind == p.DATA_ROW and (argument == OWED_ASK or argument == OWED_AUDIT))
            or (kind == p.ROW_DESCRIPTION and rows_wanted(argument))
            or (kind == p.ERROR_RESPONSE and (ps.again.end or argument > OWED_EFFECT))
        ):
            step = NEED_DATA
            break
        step = backend_step(&ps.be, &v, &size)
        if step == NEED_DATA or step == VIOLATION:
            break
        if ps.be.begins:
            if kind == p.DATA_ROW:
                if ps.be.owed.answered == OWED_ASK and c != NULL and pc.asked != NULL:
                    if not virtual_answer(r, c, s, v.at, size):
                        pins_cause(r, c, SETTING, NULL, 0)
                elif ps.be.owed.answered == OWED_AUDIT and c != NULL and c.pin != NULL:
                    audit_answer(r, c, v.at, size)
            elif kind == p.READY_FOR_QUERY and ps.mend & MEND_MENDING:
                step = SWALLOW
                ps.errored = 0
                if c != NULL and not mend_again(r, c, s):
                    client_end(r, c, CloseReason.CLIENT_GONE)
                    return
                if c != NULL:
                    schedule(r, &c.ch)
            elif kind == p.READY_FOR_QUERY:
                settled = True
                if c != NULL and pc.base != NULL and ps.now != pc.now and not ps.errored:
                    _to_client(c, run, v.at)
                    run = v.at
                    virtual_tell_reset(r, c)
                _ready(r, s)
            elif kind == p.COMMAND_COMPLETE:
                if (ps.stirred or ps.be.owed.answered == OWED_EFFECT) and ps.be.owed.answered != OWED_REPLAY:
                    text = pc.flights[0].text if c != NULL and pc.n_flights else NULL
                    if text != NULL:
                        statement_share(&tables(r).statements, text)
                    pins = virtual_complete(r, c, s, v.at + 5, size - 6)
                    if pins and c != NULL:
                        pins_cause(r, c, pins, NULL if text == NULL else &text.data[0], statement_text_size(text))
                    if text != NULL:
                        statement_drop(&tables(r).statements, text)
            elif kind == p.PARAMETER_STATUS:
                ours = (ps.replaying and owed_argument(&ps.be.owed) == OWED_REPLAY) or (
                    c != NULL and virtual_conceals(c, s, v.at, size)
                )
                if not _reported(r, s, v.at, size, ours):
                    step = VIOLATION
                    break
                if ours:
                    step = SWALLOW
            elif kind == p.NOTIFICATION_RESPONSE:
                # the client knows its own session by the pid we told it
                if c != NULL and load_u32(v.at + 5) == s.backend_pid:
                    store_u32(<uint8_t*>v.at + 5, c.pid)
            elif kind == p.ROW_DESCRIPTION or kind == p.NO_DATA:
                if rows_wanted(ps.be.owed.answered):
                    rows_described(r, c, s, v.at, size)
            elif kind == p.PARSE_COMPLETE or kind == p.CLOSE_COMPLETE:
                if ps.be.owed.answered:
                    prepared_answered(r, c, s)
            elif kind == p.PORTAL_SUSPENDED:
                if ps.be.owed.answered:
                    pins_cause(r, c, virtual_suspended(r, c, s), NULL, 0)
            elif kind == p.COPY_BOTH_RESPONSE:
                if c != NULL:
                    pins_cause(r, c, <uint64_t>1 << <int>PinReason.PIN_REPLICATION, NULL, 0)
            elif kind == p.ERROR_RESPONSE:
                ps.errored = 1
                if ps.be.owed.answered == OWED_REPLAY:
                    refused = True
                    tell(r, EVENT_REFUSED, s.pool.id, s.id, 0 if c == NULL else c.slot, v.at, size)
                if ps.be.owed.n_lost:
                    prepared_lost(r, c, s)
                if ps.be.owed.orphaned and ps.be.owed.skipping:
                    # the server waits for a Sync, the client for its Query's end: that Sync's answer is it
                    chan_send(&s.ch, b"S\x00\x00\x00\x04", 5)
                    owed_request(&ps.be.owed, OWED_SYNC, 0)
                if c != NULL:
                    rows_answered(r, c)
                if c != NULL and mend_wanted(s):
                    ps.mend |= MEND_MENDING
                    step = SWALLOW
                if ps.be.owed.answered < OWED_REFUSED and (
                    memcmp(&ps.be.sqlstate[0], b"0A000", 5) == 0 or memcmp(&ps.be.sqlstate[0], b"26000", 5) == 0
                ):
                    prepared_unsure(s)       # "cached plan must not change result type", "does not exist" (edge case 29)
                if ps.be.fatal:
                    tell(r, EVENT_SERVER_FATAL, s.pool.id, s.id, 0, v.at, size)
                elif ps.be.owed.in_doubt and c != NULL:
                    pins_cause(r, c, <uint64_t>1 << <int>PinReason.PIN_COPY_IN_DOUBT, NULL, 0)
                elif c == NULL and owed_count(&ps.be.owed) == 0 and not ps.be.owed.skipping:
                    unasked = True
                if c != NULL and ps.be.ends and ps.be.owed.answered >= OWED_REFUSED and not ps.be.fatal:
                    _to_client(c, run, v.at)
                    _refusal(r, c, ps.be.owed.answered - OWED_REFUSED)
                    run = v.at + size
                elif (
                    c != NULL and ps.be.ends and step == FORWARD and (pc.names.count or pc.names.n_changes)
                    and _in_its_words(c, s, run, v.at, size)
                ):
                    run = v.at + size
        if step == SWALLOW:
            if c != NULL:
                _to_client(c, run, v.at)
            run = v.at + size
        elif kind != p.NOTICE_RESPONSE and kind != p.PARAMETER_STATUS and kind != p.NOTIFICATION_RESPONSE:
            mend_forget(s)
        v.at += size
        if refused:
            # its settings cannot be had any more (a role that is gone …): under others its requests must not run, and of their
            # refusal, which comes next, it must not learn
            refused = False
            s.condemned = CloseReason.SERVER_STATE_UNKNOWN
            if c != NULL:
                client_end(r, c, CloseReason.CLIENT_STATE_LOST)
                c = NULL
                if s.client != NULL or s.state == SERVER_PARTING or s.ch.fd < 0:
                    return
    if c != NULL:
        _to_client(c, run, v.at)
    if step == VIOLATION:
        server_lost(r, s, CloseReason.SERVER_PROTOCOL_VIOLATION, b"violation of the protocol")
        return
    if v.at < v.end and chan_keep(&s.ch, v.at, v.end - v.at) < 0:
        server_lost(r, s, CloseReason.SERVER_DOUBTFUL, b"out of memory")
        return
    if c != NULL and c.ch.broken:
        schedule(r, &c.ch)
    if c == NULL and ps.be.fatal:
        server_close(r, s, CloseReason.SERVER_FATAL, b"")
        return
    if unasked:
        server_close(r, s, CloseReason.SERVER_DOUBTFUL, b"an error nobody asked for")
        return
    if s.state == SERVER_IDLE and ps.params.read_only and not ps.born_read_only:
        server_close(r, s, CloseReason.SERVER_ROLE_CHANGED, NULL)
        return
    if s.state == SERVER_IDLE and (ps.be.kind != 0 or iobuf_len(&s.ch.tail)):
        session_unsettle(r, s)
    if settled or s.state == SERVER_CLEANUP or (c != NULL and owed_count(&ps.be.owed) == 0):
        session_settle(r, s)
