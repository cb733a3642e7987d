# What PostgreSQL's engine keeps of a client, of a server connection, and for all of a thread. See _engine.pyx.

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from proxy._wire cimport IoBuf
from proxy.dataplane._state cimport Client, Relay_, Server
from proxy.pgsql._backend cimport Backend
from proxy.pgsql._frontend cimport Frontend
from proxy.pgsql._params cimport ParamSet, ParamTable
from proxy.pgsql._statements cimport KnownSet, Names, Statement, StatementTable

cdef enum:
    POSTGRESQL_ENGINE = 0        # Engine.number

cdef struct Tables:
    ParamTable params
    StatementTable statements

cdef struct Flight:              # a request under way whose text changes the virtual session
    Statement *text
    uint32_t done                # of its statements: so many are complete
    uint32_t at                  # in its effects: the next one
    uint8_t of_query             # ends with ReadyForQuery; else an Execute
    uint64_t may_unpin           # bit per PinReason: nothing sent since could have caused it anew

cdef struct PgClient:
    Client base_                 # first: a Client* of this engine is a PgClient*
    Frontend fe
    uint8_t swallow              # the message in progress is not for any server
    uint8_t unsynced             # extended-protocol messages went out since the last Sync
    uint8_t unnamed_kept         # the unnamed statement is too large to be prepared again: the server stays
    uint8_t portal_known         # what the unnamed portal runs is in the books, and cannot end a transaction
    uint8_t named_effects        # a portal with a name may run something that changes the virtual session
    uint8_t again                # what is read next of it has failed once: see _mend
    uint8_t probing              # the Bind at hand waits for its server to say how the rows look: see _rows
    uint8_t superuser            # is_superuser as it was told at its login: 0 not at all, 1 off, 2 on
    uint8_t temporary            # the temporary schema is in its search_path
    ParamSet *told               # the ParameterStatus values this client has seen
    ParamSet *base               # settings: what the session began with, by startup packet
    ParamSet *now                # … what they are, as far as answers have come
    ParamSet *kept               # … as of the last end of a transaction
    ParamSet *meaning            # … of `now`, those on which the analysis of a statement may depend
    ParamSet *meant              # the set of which `meaning` is a part: the last `now` looked at
    ParamSet *asked              # names whose values only the server knows
    ParamSet *touched            # names that were changed in the transaction
    Flight *flights              # oldest first
    uint32_t n_flights
    uint32_t flight_room
    uint32_t bound               # number of the statement bound last, if its client is about to be told how the rows look; else 0
    uint64_t unpin               # pins that end if the transaction is kept
    Statement *portal            # what the unnamed portal runs, if that changes the virtual session
    Statement *unnamed
    Names names                  # of its prepared statements

cdef struct PgServer:
    Server base_                 # first: a Server* of this engine is a PgServer*
    Backend be
    uint8_t born_read_only       # what it reported of that at its login
    uint8_t uncertain            # more may be prepared there than `known` says
    uint8_t cancel_later         # a cancel waits for the answer to a request of ours
    uint8_t replaying            # Query messages of ours under way that establish its client's settings
    uint8_t errored              # an error came since the last ReadyForQuery
    uint8_t stirred              # settings may have changed since the last end of a transaction
    uint8_t reported             # … and the server has said so of one
    uint8_t mend                 # Mend_
    uint32_t unnamed             # number of the statement that is unnamed there; 0: none, or not known
    uint32_t batch               # counts Sync and Query
    KnownSet known               # prepared statements
    IoBuf again                  # the batch under way, until its first answer
    ParamSet *params             # what it reports
    ParamSet *born               # what it reported at its login
    ParamSet *now                # settings that differ from those of its login
    ParamSet *kept               # … as of the last end of a transaction

cdef inline PgClient *pg_client(Client *c) noexcept nogil:
    return <PgClient*>c

cdef inline PgServer *pg_server(Server *s) noexcept nogil:
    return <PgServer*>s

cdef inline Tables *tables(Relay_ *r) noexcept nogil:
    return <Tables*>r.tables[<int>POSTGRESQL_ENGINE]
