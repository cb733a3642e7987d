"""Which statements touch session state: the rules behind `_lex`, as a small machine over tokens.

Knows PostgreSQL's grammar only where a pin depends on it. It may pin too much where two readings are possible, never
too little; what the server would refuse as a syntax error may go either way: then nothing of the text is executed.

Three things are followed at once: `head` (the beginning of a statement: SET LOCAL is not SET), `prev` (two tokens side
by side: CREATE TEMP, nextval and a parenthesis) and `call` (the arguments of set_config, whose third may say "local").
A boring statement leaves all three at rest after its first word; then `hot` is 0 and most tokens do not come here.
"""

from libc.string cimport memcpy

from proxy._reasons cimport (
    PIN_ADVISORY_LOCK, PIN_CURSOR, PIN_DO_BLOCK, PIN_FUNCTION, PIN_LISTEN, PIN_LOAD, PIN_PREPARED_SQL, PIN_SEQUENCE, PIN_SETTING,
    PIN_TEMPORARY_OBJECT, PIN_UNREADABLE,
)

# ---------------------------------------------------------------- words

cdef enum Word:
    W_NONE = 0
    W_SET, W_RESET, W_DISCARD, W_LISTEN, W_LOAD, W_DECLARE, W_PREPARE, W_EXECUTE, W_DEALLOCATE, W_DO, W_CREATE
    W_EXPLAIN, W_DROP, W_ALTER, W_BEGIN, W_LOCAL, W_GLOBAL, W_TRANSACTION, W_CONSTRAINTS, W_SESSION
    W_AUTHORIZATION, W_ROLE, W_WITH, W_HOLD, W_FOR, W_AS, W_SELECT, W_DEFAULT, W_INSERT_TAIL, W_EXPLAIN_OPTION
    W_REPLACE, W_TEMP, W_INTO, W_INSERT, W_DATABASE, W_IF, W_EXISTS, W_RENAME, W_TABLESPACE, W_TEMPLATE, W_TRUE
    W_UESCAPE, W_END, W_ROLLBACK, W_TO, W_ENDS, W_UPDATE
    W_INSERT_INTO        # INTO right behind INSERT or MERGE: what follows is a table's name
    W_INSERT_TEMP        # and that name is "temp", unless this is SELECT insert INTO TEMP name
    W_PG_TEMP            # from here on, quoting does not change the meaning
    W_SEED, W_PG_SETTINGS
    W_SET_CONFIG         # from here on, functions
    W_CALL_STATE, W_CALL_LOCK, W_CALL_UNLOCK, W_CALL_SEQUENCE

cdef enum Head:
    H_REST = 0           # the beginning is understood
    H_START              # in front of the first word
    H_SET, H_SET_MAYBE, H_ROLLBACK, H_PREPARE, H_PREPARE_TRANSACTION, H_DECLARE, H_CREATE, H_EXPLAIN
    H_DROP, H_DROP_DATABASE, H_DROP_IF, H_ALTER, H_ALTER_DATABASE, H_ALTER_ACTION, H_ALTER_SET
    H_CREATE_DATABASE, H_CREATE_OPTIONS, H_TEMPLATE

cdef enum:
    ARG_NOTHING = 0
    ARG_TRUE = 1
    ARG_OTHER = 2
    NAME_MAX = 63        # NAMEDATALEN - 1

_WORDS = {
    "set": W_SET, "reset": W_RESET, "discard": W_DISCARD, "listen": W_LISTEN, "load": W_LOAD, "declare": W_DECLARE,
    "prepare": W_PREPARE, "execute": W_EXECUTE, "deallocate": W_DEALLOCATE, "do": W_DO, "create": W_CREATE,
    "explain": W_EXPLAIN, "drop": W_DROP, "alter": W_ALTER, "begin": W_BEGIN, "start": W_BEGIN, "local": W_LOCAL,
    "global": W_GLOBAL, "transaction": W_TRANSACTION, "constraints": W_CONSTRAINTS, "session": W_SESSION,
    "authorization": W_AUTHORIZATION, "role": W_ROLE, "session_authorization": W_ROLE, "with": W_WITH, "hold": W_HOLD,
    "for": W_FOR, "as": W_AS, "select": W_SELECT, "default": W_DEFAULT, "values": W_INSERT_TAIL,
    "overriding": W_INSERT_TAIL, "using": W_INSERT_TAIL, "analyze": W_EXPLAIN_OPTION, "analyse": W_EXPLAIN_OPTION,
    "verbose": W_EXPLAIN_OPTION, "replace": W_REPLACE, "temp": W_TEMP, "temporary": W_TEMP, "database": W_DATABASE,
    "if": W_IF, "exists": W_EXISTS, "rename": W_RENAME, "tablespace": W_TABLESPACE, "template": W_TEMPLATE,
    "true": W_TRUE, "commit": W_END, "end": W_END, "rollback": W_ROLLBACK, "abort": W_ROLLBACK, "to": W_TO,
    "unlisten": W_ENDS, "close": W_ENDS, "seed": W_SEED, "update": W_UPDATE,
}
# These matter wherever they stand, so the lexer hands them over even when `hot` is 0.
_NOTABLE = {
    "into": W_INTO, "insert": W_INSERT, "merge": W_INSERT, "uescape": W_UESCAPE, "pg_temp": W_PG_TEMP,
    "set_config": W_SET_CONFIG, "pg_settings": W_PG_SETTINGS,
    # state of the session that no statement takes back
    "setseed": W_CALL_STATE, "set_limit": W_CALL_STATE, "pg_replication_origin_session_setup": W_CALL_STATE,
    "dblink_connect": W_CALL_STATE, "dblink_connect_u": W_CALL_STATE,
    # their slots may be temporary: the session's own
    "pg_create_logical_replication_slot": W_CALL_STATE, "pg_create_physical_replication_slot": W_CALL_STATE,
    "pg_copy_logical_replication_slot": W_CALL_STATE, "pg_copy_physical_replication_slot": W_CALL_STATE,
    "pg_advisory_lock": W_CALL_LOCK, "pg_advisory_lock_shared": W_CALL_LOCK,
    "pg_try_advisory_lock": W_CALL_LOCK, "pg_try_advisory_lock_shared": W_CALL_LOCK,
    "pg_advisory_unlock": W_CALL_UNLOCK, "pg_advisory_unlock_shared": W_CALL_UNLOCK, "pg_advisory_unlock_all": W_CALL_UNLOCK,
    "nextval": W_CALL_SEQUENCE, "setval": W_CALL_SEQUENCE, "currval": W_CALL_SEQUENCE, "lastval": W_CALL_SEQUENCE,
}

cdef struct Entry:
    uint8_t length
    uint8_t word
    uint8_t next                 # in the same bucket; 0 ends it
    uint8_t[40] text

cdef Entry[112] ENTRIES           # 0 is unused
cdef uint8_t[256] BUCKETS
cdef uint8_t[256] FOLD
cdef uint32_t[64] NOTABLE


# words that give the next token a meaning, also where the beginning of the statement is understood: see `prev` in rules_token
cdef uint64_t LEADS = 0


cdef inline uint8_t bucket(uint8_t first, uint8_t last, Py_ssize_t n) noexcept nogil:
    return <uint8_t>(first + 37 * n + 11 * last)


cdef int fill_tables() except -1:
    global LEADS
    cdef int i, slot
    cdef bytes text
    for i in range(256):
        FOLD[i] = <uint8_t>(i + 32 if 65 <= i <= 90 else i)      # ASCII only, whatever the locale
    for slot, (name, word) in enumerate((_WORDS | _NOTABLE).items(), 1):
        text = name.encode()
        ENTRIES[slot].length = len(text)
        ENTRIES[slot].word = word
        memcpy(ENTRIES[slot].text, <const uint8_t*>text, len(text))
        i = bucket(text[0], text[len(text) - 1], len(text))
        ENTRIES[slot].next = BUCKETS[i]
        BUCKETS[i] = slot
        if name in _NOTABLE:
            NOTABLE[len(text)] |= <uint32_t>1 << (text[0] & 31)
    for word in (
        W_CREATE, W_REPLACE, W_INTO, W_INSERT, W_INSERT_INTO, W_INSERT_TEMP, W_END, W_SET_CONFIG, W_CALL_STATE, W_CALL_LOCK,
        W_CALL_UNLOCK, W_CALL_SEQUENCE,
    ):
        LEADS |= <uint64_t>1 << <int>word
    for i in range(9, 24):                                       # pg_temp_N
        NOTABLE[i] |= <uint32_t>1 << (b"p"[0] & 31)
    return 0


fill_tables()


cdef const uint32_t *rules_notable() noexcept nogil:
    return NOTABLE


cdef inline bint same(const uint8_t *w, const uint8_t *text, Py_ssize_t n, bint fold) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if (FOLD[w[i]] if fold else w[i]) != text[i]:
            return False
    return True


cdef uint8_t lookup(const uint8_t *w, Py_ssize_t n, bint fold) noexcept nogil:
    cdef uint8_t i
    cdef Py_ssize_t k
    if n == 0 or n > NAME_MAX:
        return W_NONE
    i = BUCKETS[bucket(FOLD[w[0]], FOLD[w[n - 1]], n) if fold else bucket(w[0], w[n - 1], n)]
    while i:
        if ENTRIES[i].length == n and same(w, ENTRIES[i].text, n, fold):
            return ENTRIES[i].word
        i = ENTRIES[i].next
    if n > 8 and same(w, <const uint8_t*>b"pg_temp_", 8, fold):
        for k in range(8, n):
            if not 0x30 <= w[k] <= 0x39:
                return W_NONE
        return W_PG_TEMP
    return W_NONE


# ---------------------------------------------------------------- what is remembered

cdef void rules_start(Rules *r) noexcept nogil:
    r.mask = LEX_EMPTY
    r.statements = 0
    r.ended = 0
    r.seen = 0
    r.writes = 0
    r.depth = 0
    r.call = 0
    r.hot = 1
    r.head = H_START
    r.prev = W_NONE
    r.name_len = 0


cdef void rules_pin(Rules *r, uint8_t reason) noexcept nogil:
    r.mask |= (<uint64_t>1) << reason


cdef uint8_t pin(Rules *r, uint8_t reason) noexcept nogil:
    rules_pin(r, reason)
    return H_REST


cdef uint8_t effects(Rules *r) noexcept nogil:
    r.mask |= LEX_EFFECTS
    return H_REST


cdef void take_name(Rules *r, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil:
    """Remember a database's name as the server will: folded unless quoted, cut to 63 bytes at the end of a character.

    In UTF-8, that is; in a single-byte encoding a cut name may lose a few letters more here than there.
    """
    cdef Py_ssize_t i
    if kind != T_WORD and kind != T_NAME:
        n = 0                                # TEMPLATE 'name': known to be there, not read
    if n > NAME_MAX:
        n = NAME_MAX
        while n > 0 and (w[n] & 0xC0) == 0x80:
            n -= 1
    for i in range(n):
        r.name[i] = FOLD[w[i]] if kind == T_WORD else w[i]
    r.name_len = <uint8_t>n


cdef void take_template1(Rules *r) noexcept nogil:
    memcpy(r.name, <const uint8_t*>b"template1", 9)
    r.name_len = 9


# ---------------------------------------------------------------- set_config(name, value, is_local)

cdef void argument(Rules *r, uint8_t kind, uint8_t word) noexcept nogil:
    """One token inside the parentheses. Only a third argument that is the bare word `true` makes the change local."""
    if kind == T_CLOSE and r.depth < r.call:
        r.mask |= LEX_LOCAL if r.commas == 2 and r.last == ARG_TRUE else LEX_EFFECTS
        r.call = 0
    elif kind == T_COMMA and r.depth == r.call:
        if r.commas < 3:
            r.commas += 1
        r.last = ARG_NOTHING
    elif word == W_TRUE and r.last == ARG_NOTHING and r.depth == r.call:
        r.last = ARG_TRUE
    else:
        r.last = ARG_OTHER


cdef void called(Rules *r, uint8_t function) noexcept nogil:
    if function == W_CALL_LOCK:
        rules_pin(r, PIN_ADVISORY_LOCK)
    elif function == W_CALL_SEQUENCE:
        rules_pin(r, PIN_SEQUENCE)
    elif function == W_SET_CONFIG and r.mask >> <int>PIN_PREPARED_SQL & 1:
        rules_pin(r, PIN_FUNCTION)           # PREPARE … AS SELECT set_config(…): executed unseen, as often as one likes
    elif function == W_SET_CONFIG and r.call == 0:
        r.call = r.depth
        r.commas = 0
        r.last = ARG_NOTHING
    elif function == W_CALL_UNLOCK:
        r.mask |= LEX_ENDS
    elif function == W_SET_CONFIG:
        r.mask |= LEX_EFFECTS                # among the arguments of another
    else:
        rules_pin(r, PIN_FUNCTION)


# ---------------------------------------------------------------- the beginning of a statement

cdef uint8_t first_word(Rules *r, uint8_t word) noexcept nogil:
    if word == W_SET:
        return H_SET
    elif word == W_RESET:
        return effects(r)
    elif word == W_DISCARD:
        r.mask |= LEX_ENDS
        return effects(r)
    elif word == W_LISTEN:
        return pin(r, PIN_LISTEN)
    elif word == W_LOAD:
        return pin(r, PIN_LOAD)
    elif word == W_DO:
        return pin(r, PIN_DO_BLOCK)
    elif word == W_EXECUTE:
        return pin(r, PIN_PREPARED_SQL)
    elif word == W_DEALLOCATE:
        r.mask |= LEX_ENDS
        return effects(r)
    elif word == W_PREPARE:
        return H_PREPARE
    elif word == W_DECLARE:
        return H_DECLARE
    elif word == W_CREATE:
        return H_CREATE
    elif word == W_EXPLAIN:
        return H_EXPLAIN
    elif word == W_DROP:
        r.mask |= LEX_ENDS
        return H_DROP
    elif word == W_ALTER:
        return H_ALTER
    elif word == W_BEGIN:
        r.mask |= LEX_TRANSACTION_START
        return H_REST
    elif word == W_END:
        r.mask |= LEX_TRANSACTION_END
        return H_REST
    elif word == W_ROLLBACK:
        r.mask |= LEX_TRANSACTION_END
        return H_ROLLBACK
    elif word == W_ENDS:
        r.mask |= LEX_ENDS
        return H_REST
    elif word == W_UPDATE or word == W_WITH:
        r.writes = 1
        return H_REST
    else:
        return H_REST


cdef uint8_t step_session(Rules *r, uint8_t head, uint8_t kind, uint8_t word) noexcept nogil:
    """SET, ROLLBACK, PREPARE, DECLARE, EXPLAIN."""
    if head == H_SET:
        if word == W_LOCAL:
            r.mask |= LEX_LOCAL
        if word == W_LOCAL or word == W_TRANSACTION or word == W_CONSTRAINTS:
            return H_SET_MAYBE
        return effects(r)
    elif head == H_SET_MAYBE:
        # SET local.x = 1 sets a custom setting of the session: these words are not reserved
        if word == W_SEED:
            return pin(r, PIN_FUNCTION)      # SET LOCAL seed: the generator does not go back with the transaction
        return effects(r) if kind == T_DOT else H_REST
    elif head == H_ROLLBACK:                 # [WORK | TRANSACTION] TO [SAVEPOINT] name
        if word == W_TO:
            return effects(r)
        return H_ROLLBACK if r.prev == W_ROLLBACK else H_REST
    elif head == H_PREPARE:
        return H_PREPARE_TRANSACTION if word == W_TRANSACTION else pin(r, PIN_PREPARED_SQL)
    elif head == H_PREPARE_TRANSACTION:      # PREPARE transaction AS … prepares a statement of that name
        if kind == T_STRING:
            r.mask |= LEX_TRANSACTION_END
            return H_REST
        return pin(r, PIN_PREPARED_SQL)
    elif head == H_DECLARE:
        if word == W_HOLD and r.prev == W_WITH:
            return pin(r, PIN_CURSOR)
        return H_REST if word == W_FOR else H_DECLARE
    elif r.depth > 0 or kind == T_CLOSE or word == W_EXPLAIN_OPTION:       # H_EXPLAIN, in its options
        return H_EXPLAIN
    else:
        return first_word(r, word)


cdef uint8_t step_database(
    Rules *r, uint8_t head, uint8_t kind, uint8_t word, const uint8_t *w, Py_ssize_t n
) noexcept nogil:
    """CREATE, DROP, ALTER: which database has to be free of idle sessions."""
    if head == H_CREATE:
        if word == W_DATABASE and r.prev == W_CREATE:
            return H_CREATE_DATABASE
        if word == W_EXECUTE and r.prev == W_AS:
            return pin(r, PIN_PREPARED_SQL)  # CREATE TABLE … AS EXECUTE
        return H_REST if word == W_SELECT else H_CREATE
    elif head == H_DROP:
        return H_DROP_DATABASE if word == W_DATABASE else H_REST
    elif head == H_DROP_DATABASE:
        take_name(r, kind, w, n)             # "if" is a possible name; EXISTS behind it decides
        r.mask |= LEX_DROP_DATABASE
        return H_DROP_IF if word == W_IF else H_REST
    elif head == H_DROP_IF:
        return H_DROP_DATABASE if word == W_EXISTS else H_REST
    elif head == H_ALTER:
        return H_ALTER_DATABASE if word == W_DATABASE else H_REST
    elif head == H_ALTER_DATABASE:
        take_name(r, kind, w, n)
        return H_ALTER_ACTION
    elif head == H_ALTER_ACTION or head == H_ALTER_SET:
        if word == W_SET and head == H_ALTER_ACTION:
            return H_ALTER_SET
        if word == (W_RENAME if head == H_ALTER_ACTION else W_TABLESPACE):
            r.mask |= LEX_DROP_DATABASE
        return H_REST
    elif head == H_CREATE_DATABASE:          # this is the new name; what is copied is template1 unless said otherwise
        take_template1(r)
        r.mask |= LEX_DROP_DATABASE
        return H_CREATE_OPTIONS
    elif head == H_CREATE_OPTIONS:
        return H_TEMPLATE if word == W_TEMPLATE else H_CREATE_OPTIONS
    else:                                    # H_TEMPLATE
        if kind == T_OTHER:                  # the optional =
            return H_TEMPLATE
        if word != W_DEFAULT:
            take_name(r, kind, w, n)
        return H_REST


# ---------------------------------------------------------------- tokens

cdef void rules_token(Rules *r, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil:
    cdef uint8_t word = W_NONE
    cdef uint8_t prev = r.prev
    cdef uint8_t head = r.head
    r.mask &= ~LEX_EMPTY
    r.seen = 1
    if kind == T_WORD:
        word = lookup(w, n, True)
    elif kind == T_NAME:
        word = lookup(w, n, False)
        if word < W_PG_TEMP:                 # a quoted keyword is a name
            word = W_NONE

    if r.call:
        argument(r, kind, word)
    if prev >= W_SET_CONFIG and kind == T_OPEN:
        called(r, prev)
    elif prev == W_INSERT_TEMP:
        # "INSERT INTO temp" is finished as an INSERT is; "SELECT insert INTO TEMP" needs a name (or TABLE) now
        if kind == T_NAME or (kind == T_WORD and not (
                word == W_AS or word == W_SELECT or word == W_WITH or word == W_DEFAULT or word == W_INSERT_TAIL)):
            rules_pin(r, PIN_TEMPORARY_OBJECT)

    if head == H_REST:
        pass
    elif head == H_START:
        if kind != T_OPEN and kind != T_CLOSE:
            head = first_word(r, word)
    elif head <= H_EXPLAIN and head != H_CREATE:
        head = step_session(r, head, kind, word)
    else:
        head = step_database(r, head, kind, word, w, n)
    r.head = head

    if word == W_PG_TEMP:
        rules_pin(r, PIN_TEMPORARY_OBJECT)
    elif word == W_PG_SETTINGS:
        if r.writes:                         # UPDATE pg_settings is set_config
            rules_pin(r, PIN_SETTING)
    elif word == W_UESCAPE:                  # the name or string before it means something else than it says
        rules_pin(r, PIN_UNREADABLE)
    elif word == W_TEMP:
        if prev == W_CREATE or prev == W_REPLACE or prev == W_INTO:
            rules_pin(r, PIN_TEMPORARY_OBJECT)
        elif prev == W_INSERT_INTO:
            word = W_INSERT_TEMP
    elif word == W_LOCAL or word == W_GLOBAL:
        if prev == W_CREATE or prev == W_REPLACE or prev == W_INTO:
            word = prev                      # CREATE LOCAL TEMP: as if it were not there
        elif prev == W_INSERT_INTO:          # SELECT insert INTO LOCAL TEMP; an INSERT cannot go on like that
            word = W_INTO
    elif word == W_INTO and prev == W_INSERT:
        word = W_INSERT_INTO
    elif word == W_DROP and prev == W_END:   # ON COMMIT DROP
        r.mask |= LEX_ENDS
    r.prev = word
    r.hot = head != H_REST or (LEADS >> word) & 1 or r.call != 0


cdef void rules_end(Rules *r) noexcept nogil:
    if r.head == H_SET or r.call:
        r.mask |= LEX_EFFECTS                # cut short: the server will refuse it, but whoever is in doubt looks
    elif r.head == H_PREPARE or r.head == H_PREPARE_TRANSACTION:
        rules_pin(r, PIN_PREPARED_SQL)
    r.statements += r.seen
    r.ended += 1
    r.seen = 0
    r.writes = 0
    r.call = 0
    r.prev = W_NONE
    r.head = H_START
    r.hot = 1
