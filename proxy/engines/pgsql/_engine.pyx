"""PostgreSQL's entry in the registry of engines: what the relay asks of a pair, in terms of its protocol."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strlen

from proxy._reasons cimport CloseReason, PinReason
from proxy._wire cimport iobuf_free, store_u32
from proxy.dataplane._chan cimport chan_send
from proxy.dataplane._engine cimport engine_register
from proxy.dataplane._pins cimport pins_cause
from proxy.dataplane._state cimport (
    ABANDONED_ASKED, ABANDONED_BOUND, ABANDONED_DOUBTFUL, ABANDONED_HALF, ABANDONED_UNKNOWN, CANCEL_DROP, CANCEL_LATER, CANCEL_NOW,
    Cancel_, Client, Engine, Relay_, Server,
)
from proxy.engines.pgsql._audit cimport audit_ask
from proxy.engines.pgsql._client cimport client_read
from proxy.engines.pgsql._mend cimport MEND_MENDING, mend_free
from proxy.engines.pgsql._server cimport server_read
from proxy.engines.pgsql._state cimport POSTGRESQL_ENGINE, PgClient, PgServer, Tables, pg_client, pg_server, tables
from proxy.engines.pgsql._virtual cimport (
    virtual_ask, virtual_attach, virtual_begin, virtual_free, virtual_pinned, virtual_superuser, virtual_unsure,
)
from proxy.pgsql cimport _protocol as p
from proxy.pgsql._backend cimport backend_free, backend_init
from proxy.pgsql._frontend cimport frontend_init
from proxy.pgsql._leftovers cimport leftovers_askable
from proxy.pgsql._owed cimport COPY_IN, OWED_QUERY, OWED_SWALLOW, owed_at, owed_count, owed_request
from proxy.pgsql._params cimport ParamSet, params_drop, params_init, params_intern, params_share
from proxy.pgsql._statements cimport known_free, names_free, statement_drop, statements_free, statements_init
from proxy.sql._digest cimport sql_digest
from proxy.sql._lex cimport POSTGRESQL

cdef uint64_t TEMPORARY = <uint64_t>1 << <int>PinReason.PIN_TEMPORARY_OBJECT


# ---------------------------------------------------------------- a thread

cdef bint _begin(Relay_ *r) noexcept nogil:
    cdef Tables *made = <Tables*>calloc(1, sizeof(Tables))
    if made == NULL:
        return False
    params_init(&made.params)
    statements_init(&made.statements, &made.params)
    r.tables[<int>POSTGRESQL_ENGINE] = made
    return True


cdef void _end(Relay_ *r) noexcept nogil:
    statements_free(&tables(r).statements)
    free(r.tables[<int>POSTGRESQL_ENGINE])
    r.tables[<int>POSTGRESQL_ENGINE] = NULL


# ---------------------------------------------------------------- clients

cdef bint _client_begin(
    Relay_ *r, Client *c, const uint8_t *told, Py_ssize_t n, const uint8_t *settings, Py_ssize_t m,
) noexcept nogil:
    """Both are ParameterStatus messages, sorted by name; of `settings` the names are in lower case."""
    cdef PgClient *pc = pg_client(c)
    cdef ParamSet *base = NULL
    frontend_init(&pc.fe)
    pc.fe.defer = 1
    pc.told = params_intern(&tables(r).params, told, n)
    if m:
        base = params_intern(&tables(r).params, settings, m)
    if pc.told == NULL or (m and base == NULL):
        return False
    pc.superuser = virtual_superuser(pc.told)
    pc.fe.std_strings = pc.told.std_strings
    pc.fe.ascii_safe = pc.told.ascii_safe
    return virtual_begin(r, c, base)


cdef void _client_end(Relay_ *r, Client *c) noexcept nogil:
    cdef PgClient *pc = pg_client(c)
    params_drop(&tables(r).params, pc.told)
    pc.told = NULL
    virtual_free(r, c)
    statement_drop(&tables(r).statements, pc.unnamed)
    pc.unnamed = NULL
    names_free(&pc.names, &tables(r).statements)


cdef bint _client_between(const Client *c) noexcept nogil:
    return (<const PgClient*>c).fe.kind == 0 and not (<const PgClient*>c).unsynced


cdef bint _client_waits(const Client *c) noexcept nogil:
    """What comes next of it is what has failed."""
    return (<const PgServer*>c.server).mend & MEND_MENDING


# ---------------------------------------------------------------- pairs

cdef void _detach(Server *s) noexcept nogil:
    mend_free(s)


cdef bint _part(Relay_ *r, Client *c, Server *s) noexcept nogil:
    if pg_client(c).asked != NULL and virtual_ask(r, c, s):
        return False
    if pg_client(c).temporary:
        pins_cause(r, c, TEMPORARY, NULL, 0)
    return True


cdef bint _bound(const Client *c) noexcept nogil:
    return (<const PgClient*>c).unnamed_kept


cdef int _abandon(Relay_ *r, Client *c, Server *s) noexcept nogil:
    cdef PgClient *pc = pg_client(c)
    cdef PgServer *ps = pg_server(s)
    cdef bint asked = owed_count(&ps.be.owed) != 0
    cdef int left = 0
    if pc.fe.kind != 0 or pc.unsynced:
        left |= ABANDONED_HALF
    if ps.be.owed.in_doubt or ps.be.owed.skipping or ps.be.fatal:
        left |= ABANDONED_DOUBTFUL
    if asked:
        left |= ABANDONED_ASKED
    if pc.unnamed_kept:
        left |= ABANDONED_BOUND
    # what its requests under way will change, nobody will see; what it has changed in an open transaction, goes with that
    if virtual_unsure(c) or (asked and (ps.stirred or ps.replaying)) or ps.reported:
        left |= ABANDONED_UNKNOWN
    if not asked:
        params_drop(&tables(r).params, ps.now)
        ps.now = params_share(ps.kept)
    return left


# ---------------------------------------------------------------- servers

cdef bint _server_begin(
    Relay_ *r, Server *s, const uint8_t *told, Py_ssize_t n, const uint8_t *settings, Py_ssize_t m,
) noexcept nogil:
    """As of a client."""
    cdef PgServer *ps = pg_server(s)
    backend_init(&ps.be)
    ps.be.tx_status = p.TX_IDLE
    ps.params = params_intern(&tables(r).params, told, n)
    ps.born = params_share(ps.params)
    if m:
        ps.now = params_intern(&tables(r).params, settings, m)
        ps.kept = params_share(ps.now)
    if ps.params == NULL or (m and ps.now == NULL):
        return False
    ps.born_read_only = ps.params.read_only
    return True


cdef void _server_end(Relay_ *r, Server *s) noexcept nogil:
    cdef PgServer *ps = pg_server(s)
    params_drop(&tables(r).params, ps.params)
    params_drop(&tables(r).params, ps.born)
    params_drop(&tables(r).params, ps.now)
    params_drop(&tables(r).params, ps.kept)
    ps.params = ps.born = ps.now = ps.kept = NULL
    backend_free(&ps.be)
    iobuf_free(&ps.again)
    known_free(&ps.known)


cdef bint _server_idle(const Server *s) noexcept nogil:
    cdef const PgServer *ps = <const PgServer*>s
    return (
        owed_count(&ps.be.owed) == 0 and not ps.be.owed.skipping and not ps.be.owed.in_doubt and ps.be.kind == 0
        and ps.be.tx_status == p.TX_IDLE and not ps.be.fatal
    )


cdef bint _server_cut(const Server *s) noexcept nogil:
    return (<const PgServer*>s).be.kind != 0


cdef bint _server_dying(const Server *s) noexcept nogil:
    return (<const PgServer*>s).be.fatal


cdef uint32_t _server_owed(const Server *s) noexcept nogil:
    return owed_count(&(<const PgServer*>s).be.owed)


cdef int _server_unfit(const Server *s) noexcept nogil:
    cdef const PgServer *ps = <const PgServer*>s
    # a writer that is none any more: whoever comes next is to meet the new one (edge case 15)
    return CloseReason.SERVER_ROLE_CHANGED if ps.params.read_only and not ps.born_read_only else CloseReason.CLOSE_NONE


cdef int _server_status(const Server *s) noexcept nogil:
    return (<const PgServer*>s).be.tx_status


cdef void _say(Server *s, uint8_t kind, const char *text) noexcept nogil:
    """A message whose body is one C string."""
    cdef uint8_t message[64]
    cdef size_t n = strlen(text) + 1
    message[0] = kind
    store_u32(&message[1], <uint32_t>n + 4)
    memcpy(&message[5], text, n)
    chan_send(&s.ch, &message[0], <Py_ssize_t>n + 5)


cdef int _cleanup(Relay_ *r, Server *s) noexcept nogil:
    cdef PgServer *ps = pg_server(s)
    if ps.be.owed.in_doubt:
        return -1
    if owed_count(&ps.be.owed):
        if ps.be.owed.copy == COPY_IN and not s.cleanup_stage:
            s.cleanup_stage = 1
            _say(s, p.COPY_FAIL, b"the client left in the middle of the COPY")
        return 0
    if ps.be.tx_status == p.TX_IDLE:
        return 1
    if owed_request(&ps.be.owed, OWED_QUERY | OWED_SWALLOW, 0) < 0:
        return -1
    _say(s, p.QUERY, b"ROLLBACK")
    return 0


cdef void _goodbye(Server *s) noexcept nogil:
    cdef uint8_t message[5]
    message[0] = p.TERMINATE
    store_u32(&message[1], 4)
    chan_send(&s.ch, &message[0], 5)


cdef Cancel_ _cancel(Server *s) noexcept nogil:
    """What the proxy asks for itself stands in front of what the client asks, or is all there is."""
    cdef PgServer *ps = pg_server(s)
    cdef uint32_t n = owed_count(&ps.be.owed)
    if n == 0 or owed_at(&ps.be.owed, n - 1) == (OWED_QUERY | OWED_SWALLOW):
        return CANCEL_DROP
    if owed_at(&ps.be.owed, 0) != (OWED_QUERY | OWED_SWALLOW):
        return CANCEL_NOW
    ps.cancel_later = 1
    return CANCEL_LATER


# ---------------------------------------------------------------- pins

cdef int _digest(const Client *c, const uint8_t *text, Py_ssize_t n, uint8_t *out, int size) noexcept nogil:
    return <int>sql_digest(text, n, POSTGRESQL, (<const PgClient*>c).fe.std_strings, out, size)


cdef Engine _ENGINE

_ENGINE.number = POSTGRESQL_ENGINE
_ENGINE.client_size = sizeof(PgClient)
_ENGINE.server_size = sizeof(PgServer)
_ENGINE.begin = _begin
_ENGINE.end = _end
_ENGINE.client_begin = _client_begin
_ENGINE.client_end = _client_end
_ENGINE.client_read = client_read
_ENGINE.client_between = _client_between
_ENGINE.client_waits = _client_waits
_ENGINE.attach = virtual_attach
_ENGINE.detach = _detach
_ENGINE.part = _part
_ENGINE.bound = _bound
_ENGINE.abandon = _abandon
_ENGINE.server_begin = _server_begin
_ENGINE.server_end = _server_end
_ENGINE.server_read = server_read
_ENGINE.server_idle = _server_idle
_ENGINE.server_cut = _server_cut
_ENGINE.server_dying = _server_dying
_ENGINE.server_owed = _server_owed
_ENGINE.server_unfit = _server_unfit
_ENGINE.server_status = _server_status
_ENGINE.cleanup = _cleanup
_ENGINE.goodbye = _goodbye
_ENGINE.cancel = _cancel
_ENGINE.pinned = virtual_pinned
_ENGINE.askable = leftovers_askable
_ENGINE.audit = audit_ask
_ENGINE.digest = _digest
engine_register(&_ENGINE)
