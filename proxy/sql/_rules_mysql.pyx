"""Which statements of MySQL and MariaDB touch session state: the rules behind `_lex_mysql`, a machine over tokens.

Works as `_rules` does: `head` follows the beginning of a statement, `prev` two tokens side by side, and while both rest
(`hot` is 0) only notable words, `;`, `:=`, `:` and `@@` come here. It reads MySQL 5.7 to 9 and MariaDB 10 and 11 alike:
what either of them would do to the session pins. It may pin too much, never too little; where a server would refuse
the text, either is right. Functions are known by name only: what a procedure or function does inside is not seen.

Some things ask about the statement before them (FOUND_ROWS(), SHOW WARNINGS): no pins, but LEX_ bits of their own.
"""

from libc.string cimport memcpy

from proxy._reasons cimport (
    PIN_ADVISORY_LOCK, PIN_CURSOR, PIN_DO_BLOCK, PIN_PREPARED_SQL, PIN_ROLE, PIN_SEQUENCE, PIN_SETTING, PIN_TABLE_LOCK,
    PIN_TEMPORARY_OBJECT, PIN_UNREADABLE, PIN_USER_VARIABLE, PIN_XA,
)
from proxy.sql._chars cimport fold
from proxy.sql._rules cimport (
    LEX_DROP_DATABASE, LEX_EMPTY, LEX_TRANSACTION_START, T_CLOSE, T_COMMA, T_DOT, T_NAME, T_OPEN, T_OTHER, T_STRING,
    T_WORD, rules_pin,
)

# ---------------------------------------------------------------- words

cdef enum Word:
    W_NONE = 0
    W_SET, W_LOCK, W_BACKUP, W_FLUSH, W_HANDLER, W_XA, W_CREATE, W_DROP, W_PREPARE, W_EXECUTE, W_USE, W_SHOW, W_GET
    W_CALL, W_BEGIN, W_START, W_BINLOG, W_COMPOUND, W_IF, W_FOR
    W_TABLE, W_UNLOCK, W_WITH, W_READ, W_EXPORT, W_OPEN, W_END, W_OR, W_REPLACE, W_TEMPORARY, W_DATABASE, W_EXISTS
    W_TRANSACTION, W_WORK, W_COUNT, W_WARNINGS, W_GLOBAL, W_SESSION, W_NAMES, W_PASSWORD, W_ROLE, W_DEFAULT
    W_STATEMENT, W_VALUE, W_TO
    W_SYSTEM             # behind @@, and behind @@session.
    W_SYSTEM_SCOPE       # behind @@session
    W_NEXT_VALUE         # NEXT VALUE: FOR makes it a sequence's
    W_ID_ARGUMENT        # behind LAST_INSERT_ID(
    W_NEXT, W_INTO, W_CALC_FOUND_ROWS
    W_CALL_LOCK          # from here on, quoting does not change the meaning: functions
    W_CALL_SEQUENCE, W_FOUND_ROWS, W_ROW_COUNT
    W_LAST_INSERT_ID     # from here on, also system variables
    W_IDENTITY, W_WARNING_COUNT

cdef enum Head:
    H_REST = 0           # the beginning is understood
    H_START              # in front of the first word
    H_SET, H_SET_TARGET, H_SET_VALUE, H_SET_GLOBAL, H_SET_SESSION, H_SET_SYSTEM, H_SET_SYSTEM_GLOBAL, H_SET_PASSWORD, H_SET_DEFAULT
    H_SET_ROLES, H_SET_STATEMENT
    H_LOCK, H_BACKUP, H_FLUSH, H_HANDLER, H_XA, H_CREATE, H_DROP, H_DROP_DATABASE, H_DROP_IF, H_USE, H_SHOW, H_SHOW_COUNT
    H_ARGUMENTS          # of CALL, LOAD, GET: a user variable among them is written to
    H_BEGIN, H_START_WHAT

cdef enum Maybe:         # in `call`
    NO_MAYBE = 0
    MAYBE_QUIET          # the comment began where the statement is at rest
    MAYBE_START          # … in front of the first word
    MAYBE_WAS_ALL        # … and has ended; another word would be the first one for some servers

_WORDS = {
    "set": W_SET, "lock": W_LOCK, "backup": W_BACKUP, "flush": W_FLUSH, "handler": W_HANDLER, "xa": W_XA,
    "create": W_CREATE, "drop": W_DROP, "prepare": W_PREPARE, "execute": W_EXECUTE, "deallocate": W_EXECUTE,
    "use": W_USE, "show": W_SHOW, "get": W_GET, "call": W_CALL, "load": W_CALL, "begin": W_BEGIN, "start": W_START,
    "binlog": W_BINLOG, "loop": W_COMPOUND, "while": W_COMPOUND, "repeat": W_COMPOUND, "case": W_COMPOUND,
    "declare": W_COMPOUND, "if": W_IF, "for": W_FOR, "table": W_TABLE, "tables": W_TABLE, "instance": W_TABLE,
    "unlock": W_UNLOCK, "with": W_WITH, "read": W_READ, "export": W_EXPORT, "open": W_OPEN, "end": W_END, "or": W_OR,
    "replace": W_REPLACE, "temporary": W_TEMPORARY, "database": W_DATABASE, "schema": W_DATABASE, "exists": W_EXISTS,
    "transaction": W_TRANSACTION, "work": W_WORK, "count": W_COUNT, "warnings": W_WARNINGS, "errors": W_WARNINGS,
    "global": W_GLOBAL, "persist": W_GLOBAL, "persist_only": W_GLOBAL, "session": W_SESSION, "local": W_SESSION,
    "names": W_NAMES, "character": W_NAMES, "charset": W_NAMES, "char": W_NAMES, "resource": W_NAMES,
    "authorization": W_ROLE, "password": W_PASSWORD, "role": W_ROLE, "default": W_DEFAULT, "statement": W_STATEMENT,
    "value": W_VALUE, "to": W_TO, "identity": W_IDENTITY, "warning_count": W_WARNING_COUNT,
    "error_count": W_WARNING_COUNT,
}
# These matter wherever they stand, so the lexer hands them over even when `hot` is 0.
_NOTABLE = {
    "into": W_INTO, "sql_calc_found_rows": W_CALC_FOUND_ROWS, "next": W_NEXT, "previous": W_NEXT,
    "get_lock": W_CALL_LOCK, "service_get_read_locks": W_CALL_LOCK, "service_get_write_locks": W_CALL_LOCK,
    "nextval": W_CALL_SEQUENCE, "lastval": W_CALL_SEQUENCE, "setval": W_CALL_SEQUENCE,
    "found_rows": W_FOUND_ROWS, "row_count": W_ROW_COUNT, "last_insert_id": W_LAST_INSERT_ID,
}

cdef enum:
    NAME_MAX = 64        # bytes of a database's name that fit; it may have more, 64 characters

cdef struct Entry:
    uint8_t length
    uint8_t word
    uint8_t next                 # in the same bucket; 0 ends it
    uint8_t[24] text

cdef Entry[96] ENTRIES           # 0 is unused
cdef uint8_t[256] BUCKETS
cdef uint32_t[64] NOTABLE


cdef inline uint8_t bucket(uint8_t first, Py_ssize_t n) noexcept nogil:
    return <uint8_t>(first + 37 * n)


cdef int fill_tables() except -1:
    cdef int i, slot
    cdef bytes text
    for slot, (name, word) in enumerate((_WORDS | _NOTABLE).items(), 1):
        text = name.encode()
        ENTRIES[slot].length = len(text)
        ENTRIES[slot].word = word
        memcpy(ENTRIES[slot].text, <const uint8_t*>text, len(text))
        i = bucket(text[0], len(text))
        ENTRIES[slot].next = BUCKETS[i]
        BUCKETS[i] = slot
        if name in _NOTABLE:
            NOTABLE[len(text)] |= <uint32_t>1 << (text[0] & 31)
    return 0


fill_tables()


cdef const uint32_t *rules_mysql_notable() noexcept nogil:
    return NOTABLE


cdef inline bint same(const uint8_t *w, const uint8_t *text, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        if fold(w[i]) != text[i]:
            return False
    return True


cdef uint8_t lookup(const uint8_t *w, Py_ssize_t n) noexcept nogil:
    """Of a word, or of a quoted name: those of functions and variables are folded too, quoted or not."""
    cdef uint8_t i
    if n == 0 or n > 24:
        return W_NONE
    i = BUCKETS[bucket(fold(w[0]), n)]
    while i:
        if ENTRIES[i].length == n and same(w, ENTRIES[i].text, n):
            return ENTRIES[i].word
        i = ENTRIES[i].next
    return W_NONE


# ---------------------------------------------------------------- what is remembered

cdef void rules_mysql_start(Rules *r) noexcept nogil:
    r.mask = LEX_EMPTY
    r.depth = 0
    r.call = NO_MAYBE
    r.hot = 1
    r.head = H_START
    r.prev = W_NONE
    r.commas = 0
    r.last = 0
    r.name_len = 0


cdef uint8_t pin(Rules *r, uint8_t reason, uint8_t head) noexcept nogil:
    rules_pin(r, reason)
    return head


cdef void take_name(Rules *r, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil:
    """Remember a database's name as it is written: whether case matters is the server's setting."""
    if (kind != T_WORD and kind != T_NAME) or n == 0 or n > NAME_MAX:
        rules_pin(r, PIN_UNREADABLE)
        r.name_len = 0
        return
    memcpy(r.name, w, n)
    r.name_len = <uint8_t>n


# ---------------------------------------------------------------- the beginning of a statement

cdef uint8_t first_word(Rules *r, uint8_t word) noexcept nogil:
    if word == W_SET:
        r.last = 0
        return H_SET
    elif word == W_LOCK:
        return H_LOCK
    elif word == W_BACKUP:
        return H_BACKUP
    elif word == W_FLUSH:
        return H_FLUSH
    elif word == W_HANDLER:
        return H_HANDLER
    elif word == W_XA:
        return H_XA
    elif word == W_CREATE:
        return H_CREATE
    elif word == W_DROP:
        return H_DROP
    elif word == W_PREPARE or word == W_EXECUTE:
        return pin(r, PIN_PREPARED_SQL, H_REST)
    elif word == W_USE:
        return H_USE
    elif word == W_SHOW:
        return H_SHOW
    elif word == W_GET:
        r.mask |= LEX_DIAGNOSTICS
        return H_ARGUMENTS
    elif word == W_CALL:
        return H_ARGUMENTS
    elif word == W_BEGIN:
        return H_BEGIN
    elif word == W_START:
        return H_START_WHAT
    elif word == W_BINLOG:                   # the format of the events stays behind in the session
        return pin(r, PIN_SETTING, H_REST)
    elif word == W_COMPOUND or word == W_IF or word == W_FOR:
        return pin(r, PIN_DO_BLOCK, H_REST)  # MariaDB runs IF … THEN and its like outside of procedures
    else:
        return H_REST


cdef uint8_t set_item(Rules *r, uint8_t kind, uint8_t word) noexcept nogil:
    """The first token of an assignment."""
    if kind == T_USER:
        return pin(r, PIN_USER_VARIABLE, H_SET_TARGET)
    elif kind == T_SYSTEM:
        return H_SET_SYSTEM
    elif word == W_GLOBAL:
        r.last = 1                           # also of the following ones that do not say
        return H_SET_GLOBAL
    elif word == W_SESSION:
        r.last = 0
        return H_SET_SESSION
    elif word == W_PASSWORD:
        return H_SET_PASSWORD
    elif word == W_DEFAULT:
        return H_SET_DEFAULT
    elif word == W_STATEMENT:
        return H_SET_STATEMENT
    elif word == W_ROLE:
        return pin(r, PIN_ROLE, H_SET_TARGET)
    elif r.last and word == W_NONE and (kind == T_WORD or kind == T_NAME):
        return H_SET_TARGET
    else:                                    # a variable, NAMES, CHARACTER SET, TRANSACTION, RESOURCE GROUP
        return pin(r, PIN_SETTING, H_SET_TARGET)


cdef uint8_t step_set(Rules *r, uint8_t head, uint8_t kind, uint8_t word) noexcept nogil:
    if head == H_SET:
        return set_item(r, kind, word)
    elif head == H_SET_TARGET:               # x, x.y, NAMES z
        if kind == T_OTHER or kind == T_ASSIGN:
            return H_SET_VALUE
        return H_SET if kind == T_COMMA else H_SET_TARGET
    elif head == H_SET_VALUE:
        return H_SET if kind == T_COMMA and r.depth == 0 else H_SET_VALUE
    elif head == H_SET_GLOBAL:
        if word == W_TRANSACTION:
            return H_REST                    # its characteristics have commas between them
        if kind == T_WORD or kind == T_NAME:
            return H_SET_TARGET
        return pin(r, PIN_SETTING, H_SET_TARGET)
    elif head == H_SET_SESSION:
        return pin(r, PIN_ROLE if word == W_ROLE else PIN_SETTING, H_SET_TARGET)
    elif head == H_SET_SYSTEM:
        return H_SET_SYSTEM_GLOBAL if word == W_GLOBAL else pin(r, PIN_SETTING, H_SET_TARGET)
    elif head == H_SET_SYSTEM_GLOBAL:
        return H_SET_TARGET if kind == T_DOT else pin(r, PIN_SETTING, H_SET_TARGET)
    elif head == H_SET_PASSWORD:
        if kind == T_OTHER or kind == T_ASSIGN:
            return H_SET_VALUE
        if word == W_FOR or word == W_TO:
            return H_SET_TARGET
        return pin(r, PIN_SETTING, H_SET_TARGET)
    elif head == H_SET_DEFAULT:
        return H_SET_ROLES if word == W_ROLE else pin(r, PIN_SETTING, H_SET_TARGET)
    elif head == H_SET_ROLES:                # a, b TO user; in MariaDB also a FOR user, x = 1
        if kind == T_OTHER or kind == T_ASSIGN or kind == T_SYSTEM or word == W_NAMES or word == W_ROLE:
            return pin(r, PIN_SETTING, H_SET_VALUE)
        return H_SET_ROLES
    elif word == W_FOR and r.depth == 0:     # H_SET_STATEMENT: variables for this one statement
        return H_START
    else:
        return H_SET_STATEMENT


cdef uint8_t step_other(
    Rules *r, uint8_t head, uint8_t kind, uint8_t word, const uint8_t *w, Py_ssize_t n
) noexcept nogil:
    if head == H_LOCK:
        return pin(r, PIN_TABLE_LOCK, H_REST) if word == W_TABLE else H_REST
    elif head == H_BACKUP:                   # BACKUP STAGE, BACKUP LOCK
        return H_REST if word == W_UNLOCK else pin(r, PIN_TABLE_LOCK, H_REST)
    elif head == H_FLUSH:
        if (word == W_READ and r.prev == W_WITH) or (word == W_EXPORT and r.prev == W_FOR):
            return pin(r, PIN_TABLE_LOCK, H_REST)
        return H_FLUSH
    elif head == H_HANDLER:
        return pin(r, PIN_CURSOR, H_REST) if word == W_OPEN else H_HANDLER
    elif head == H_XA:                       # what is prepared may be finished by any session
        return pin(r, PIN_XA, H_REST) if word in (W_START, W_BEGIN, W_END, W_PREPARE) else H_REST
    elif head == H_CREATE:
        if word == W_TEMPORARY:
            return pin(r, PIN_TEMPORARY_OBJECT, H_REST)
        return H_CREATE if word == W_OR or word == W_REPLACE else H_REST
    elif head == H_DROP:
        if word == W_PREPARE:
            return pin(r, PIN_PREPARED_SQL, H_REST)
        return H_DROP_DATABASE if word == W_DATABASE else H_REST
    elif head == H_DROP_DATABASE:
        if word == W_IF:                     # reserved, unlike in PostgreSQL
            return H_DROP_IF
        r.mask |= LEX_DROP_DATABASE
        take_name(r, kind, w, n)
        return H_REST
    elif head == H_DROP_IF:
        return H_DROP_DATABASE
    elif head == H_USE:
        r.mask |= LEX_USE_DATABASE
        take_name(r, kind, w, n)
        return H_REST
    elif head == H_SHOW or head == H_SHOW_COUNT:
        if word == W_WARNINGS:
            r.mask |= LEX_DIAGNOSTICS
            return H_REST
        return H_SHOW_COUNT if word == W_COUNT or head == H_SHOW_COUNT else H_REST
    elif head == H_ARGUMENTS:
        return pin(r, PIN_USER_VARIABLE, H_REST) if kind == T_USER else H_ARGUMENTS
    elif head == H_BEGIN:                    # BEGIN NOT ATOMIC …, or ORACLE mode's BEGIN …
        if word != W_WORK:
            return pin(r, PIN_DO_BLOCK, H_REST)
        r.mask |= LEX_TRANSACTION_START
        return H_REST
    else:                                    # H_START_WHAT
        if word == W_TRANSACTION:
            r.mask |= LEX_TRANSACTION_START
        return H_REST


# ---------------------------------------------------------------- tokens

cdef uint8_t called(Rules *r, uint8_t function) noexcept nogil:
    """The word that stands for the parenthesis behind `function`."""
    if function == W_CALL_LOCK:
        rules_pin(r, PIN_ADVISORY_LOCK)
    elif function == W_CALL_SEQUENCE:
        rules_pin(r, PIN_SEQUENCE)
    elif function == W_FOUND_ROWS:
        r.mask |= LEX_FOUND_ROWS
    elif function == W_ROW_COUNT:
        r.mask |= LEX_ROW_COUNT
    elif function == W_LAST_INSERT_ID:
        return W_ID_ARGUMENT
    return W_NONE


cdef uint8_t paired(Rules *r, uint8_t prev, uint8_t kind, uint8_t word) noexcept nogil:
    """What a token means behind `prev`: the word it is to be for the next one."""
    if prev >= W_CALL_LOCK and kind == T_OPEN:
        return called(r, prev)
    elif prev == W_ID_ARGUMENT:
        r.mask |= LEX_LAST_INSERT_ID if kind == T_CLOSE else LEX_LAST_INSERT_ID_SET
    elif prev == W_INTO and kind == T_USER:
        rules_pin(r, PIN_USER_VARIABLE)
    elif prev == W_NEXT and word == W_VALUE:
        return W_NEXT_VALUE
    elif prev == W_NEXT_VALUE and word == W_FOR:
        rules_pin(r, PIN_SEQUENCE)
    elif prev == W_SYSTEM:
        if word == W_LAST_INSERT_ID or word == W_IDENTITY:
            r.mask |= LEX_LAST_INSERT_ID
        elif word == W_WARNING_COUNT:
            r.mask |= LEX_DIAGNOSTICS
        elif word == W_SESSION:
            return W_SYSTEM_SCOPE
    elif prev == W_SYSTEM_SCOPE and kind == T_DOT:
        return W_SYSTEM
    return word


cdef void rules_mysql_token(Rules *r, uint8_t kind, const uint8_t *w, Py_ssize_t n) noexcept nogil:
    cdef uint8_t word = W_NONE
    cdef uint8_t head = r.head
    r.mask &= ~LEX_EMPTY
    if kind == T_WORD:
        word = lookup(w, n)
    elif kind == T_NAME or kind == T_STRING:
        word = lookup(w, n)
        if word < W_CALL_LOCK:               # a quoted keyword is a name
            word = W_NONE
    elif kind == T_SYSTEM:
        word = W_SYSTEM
    elif kind == T_COLON:                    # behind a label
        rules_pin(r, PIN_DO_BLOCK)
    if r.call == MAYBE_WAS_ALL:
        rules_pin(r, PIN_UNREADABLE)
        r.call = NO_MAYBE

    if kind == T_ASSIGN and not (H_SET <= head <= H_SET_DEFAULT and head != H_SET_VALUE):
        rules_pin(r, PIN_USER_VARIABLE)
    if head == H_START:
        if r.commas:
            r.mask |= LEX_MULTIPLE
        if kind != T_OPEN and kind != T_CLOSE:
            head = first_word(r, word)
    elif H_SET <= head <= H_SET_STATEMENT:
        head = step_set(r, head, kind, word)
    elif head != H_REST:
        head = step_other(r, head, kind, word, w, n)
    r.head = head

    word = paired(r, r.prev, kind, word)
    if word == W_CALC_FOUND_ROWS:
        r.mask |= LEX_CALC_FOUND_ROWS
    r.prev = word
    r.hot = head != H_REST or word != W_NONE


cdef void rules_mysql_end(Rules *r) noexcept nogil:
    if H_SET <= r.head <= H_SET_STATEMENT and not H_SET_TARGET <= r.head <= H_SET_VALUE and r.head != H_SET_ROLES:
        rules_pin(r, PIN_SETTING)            # cut short: the server will refuse it, but doubt pins
    elif r.head == H_BEGIN:
        r.mask |= LEX_TRANSACTION_START
    if r.head != H_START:
        r.commas = 1
    if r.call == MAYBE_WAS_ALL:
        r.call = NO_MAYBE
    r.depth = 0
    r.prev = W_NONE
    r.head = H_START
    r.hot = 1


cdef void rules_mysql_maybe(Rules *r, bint begins) noexcept nogil:
    """The comment's words are read. Skipped, they must leave the same: nothing begun, or nothing of the statement at all."""
    if begins:
        if r.call == MAYBE_WAS_ALL:
            rules_pin(r, PIN_UNREADABLE)
        if r.head == H_START:
            r.call = MAYBE_START
        elif not r.hot:
            r.call = MAYBE_QUIET
        else:
            r.call = NO_MAYBE
            rules_pin(r, PIN_UNREADABLE)
    elif r.call == MAYBE_START:
        r.call = NO_MAYBE if r.head == H_START else MAYBE_WAS_ALL
        r.hot = 1
    elif r.call == MAYBE_QUIET:
        if r.hot:
            rules_pin(r, PIN_UNREADABLE)
        r.call = NO_MAYBE
