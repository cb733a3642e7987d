"""Prepared statements, made independent of the server connection they were prepared on. Sans-IO.

Three tables:

* `StatementTable`, one per relay thread: every statement in use, interned by text and parameter types. A statement has one name
  on all servers ("slw_" and its number), whatever its clients call it. What nobody refers to is kept for a while, so that
  the next client that prepares the same text costs no lexing.
* `Names`, one per client: what this client calls which statement. What it defines and closes counts when the server has
  answered; until then it waits among the `changes`, in the order in which the answers will come.
* `KnownSet`, one per server: which statements have been prepared there, and when each was last used.

All three are hash tables with open addressing or chains; none allocates on a hit.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove, memset

from proxy._wire cimport Reader, read_bytes, read_cstr, read_u16, reader
from proxy.pgsql._params cimport ParamSet, ParamTable, params_drop, params_init, params_share
from proxy.pgsql._protocol cimport ROW_DESCRIPTION

cdef enum Bounds_:
    UNUSED_STATEMENTS = 2048     # kept without a client
    UNUSED_BYTES = 8388608


cdef inline uint64_t _hash(const uint8_t *p, Py_ssize_t n, uint64_t seed) noexcept nogil:
    """Eight bytes at a time; the keys are not secret and the chains are compared in full."""
    cdef uint64_t h = seed ^ (<uint64_t>n * <uint64_t>0x9E3779B97F4A7C15)
    cdef uint64_t x
    while n >= 8:
        memcpy(&x, p, 8)
        h = (h ^ x) * <uint64_t>0xFF51AFD7ED558CCD
        h ^= h >> 32
        p += 8
        n -= 8
    if n:
        x = 0
        memcpy(&x, p, n)
        h = (h ^ x) * <uint64_t>0xFF51AFD7ED558CCD
        h ^= h >> 32
    h *= <uint64_t>0xC4CEB9FE1A85EC53
    return h ^ (h >> 29)


# ---------------------------------------------------------------- statements

cdef void statements_init(StatementTable *t, ParamTable *params) noexcept nogil:
    memset(t, 0, sizeof(StatementTable))
    t.params = params
    t.next_id = 1


cdef void _unlink_unused(StatementTable *t, Statement *s) noexcept nogil:
    if s.newer != NULL:
        s.newer.older = s.older
    else:
        t.newest = s.older
    if s.older != NULL:
        s.older.newer = s.newer
    else:
        t.oldest = s.newer
    s.newer = s.older = NULL
    t.unused -= 1
    t.unused_bytes -= s.size


cdef void _delete(StatementTable *t, Statement *s) noexcept nogil:
    cdef Statement **link = &t.buckets[s.hash & 4095]
    while link[0] != s:
        link = &link[0].next
    link[0] = s.next
    t.count -= 1
    params_drop(t.params, s.meaning)
    free(s.effects)
    free(s)


cdef void statements_free(StatementTable *t) noexcept nogil:
    """At the end of the thread: all clients have dropped theirs."""
    cdef Statement *s
    while t.oldest != NULL:
        s = t.oldest
        _unlink_unused(t, s)
        _delete(t, s)


cdef void statement_share(StatementTable *t, Statement *s) noexcept nogil:
    if s.refs == 0:
        _unlink_unused(t, s)
    s.refs += 1


cdef void statement_drop(StatementTable *t, Statement *s) noexcept nogil:
    cdef Statement *old
    if s == NULL:
        return
    s.refs -= 1
    if s.refs:
        return
    s.older = t.newest
    s.newer = NULL
    if t.newest != NULL:
        t.newest.newer = s
    else:
        t.oldest = s
    t.newest = s
    t.unused += 1
    t.unused_bytes += s.size
    while t.unused > UNUSED_STATEMENTS or t.unused_bytes > UNUSED_BYTES:
        old = t.oldest
        _unlink_unused(t, old)
        _delete(t, old)


cdef Statement *statement_intern(
    StatementTable *t, const uint8_t *body, Py_ssize_t n, uint8_t flags, ParamSet *meaning, bint *fresh,
) noexcept nogil:
    """The statement with this body, analysed under these settings; one reference is the caller's. `fresh`: `touches` and
    `effects` are still to be set. NULL without memory."""
    cdef uint64_t h = _hash(body, n, flags)
    cdef Statement *s = t.buckets[h & 4095]
    fresh[0] = False
    while s != NULL:
        if (
            s.hash == h and s.size == <uint32_t>n and s.flags == flags and s.meaning == meaning and not flags & PRIVATE
            and memcmp(&s.data[0], body, n) == 0
        ):
            statement_share(t, s)
            return s
        s = s.next
    s = <Statement*>malloc(sizeof(Statement) + n)
    if s == NULL:
        return NULL
    s.newer = s.older = NULL
    s.hash = h
    s.touches = 0
    s.effects = NULL
    s.meaning = params_share(meaning)
    s.id = t.next_id
    # the upper bits are flags beside the number in the queue of replies owed; it comes round after 134 million statements
    t.next_id = t.next_id + 1 if t.next_id < 0x07FFFFFF else 1
    s.refs = 1
    s.size = <uint32_t>n
    s.flags = flags
    memcpy(&s.data[0], body, n)
    s.next = t.buckets[h & 4095]
    t.buckets[h & 4095] = s
    t.count += 1
    fresh[0] = True
    return s


cdef Py_ssize_t statement_name(uint32_t id, uint8_t *name) noexcept nogil:
    """Writes "slw_" and the number in hexadecimal, NUL-terminated, into STATEMENT_NAME_BYTES; its length without the NUL."""
    cdef Py_ssize_t n = 4
    cdef int shift = 28
    cdef uint8_t digit
    memcpy(name, b"slw_", 4)
    while shift > 0 and (id >> shift) == 0:
        shift -= 4
    while shift >= 0:
        digit = (id >> shift) & 15
        name[n] = digit + (0x30 if digit < 10 else 0x57)
        n += 1
        shift -= 4
    name[n] = 0
    return n


# ---------------------------------------------------------------- a client's names

cdef Name *_find_name(const Names *m, const uint8_t *name, Py_ssize_t n, uint32_t h) noexcept nogil:
    cdef uint32_t i
    if m.cap == 0:
        return NULL
    i = h & (m.cap - 1)
    while m.slots[i].name != NULL:
        if m.slots[i].hash == h and m.slots[i].size == <uint32_t>n and memcmp(m.slots[i].name, name, n) == 0:
            return &m.slots[i]
        i = (i + 1) & (m.cap - 1)
    return NULL


cdef NameState names_look(
    Names *m, const uint8_t *name, Py_ssize_t n, uint32_t batch, Statement **found,
) noexcept nogil:
    """What `name` will mean when the server reads what is sent now, in `batch`."""
    cdef Name *slot
    cdef const Change *change
    cdef uint32_t i
    m.last = 0
    for i in range(m.n_changes):
        change = &m.changes[m.n_changes - 1 - i]
        if not change.gone and change.size == <uint32_t>n and memcmp(change.name, name, n) == 0:
            if change.batch != batch:
                return NAME_UNSURE
            # in the same batch whatever fails takes what is behind it along
            found[0] = change.statement
            return NAME_PRESENT if change.statement != NULL else NAME_ABSENT
    slot = NULL if m.cap == 0 or m.clearing else _find_name(m, name, n, <uint32_t>_hash(name, n, 0))
    found[0] = NULL if slot == NULL else slot.statement
    m.last = 0 if slot == NULL else <uint32_t>(slot - m.slots) + 1
    return NAME_PRESENT if slot != NULL else NAME_ABSENT


cdef void names_told(Names *m, uint32_t id, uint32_t shape) noexcept nogil:
    """The client has been told how the rows of a statement look, whatever it calls it."""
    cdef uint32_t i
    for i in range(m.cap):
        if m.slots[i].name != NULL and m.slots[i].statement.id == id:
            m.slots[i].shape = shape


cdef uint32_t rows_shape(const uint8_t *message, Py_ssize_t n) noexcept nogil:
    """A number for what a RowDescription or NoData says of rows: names and types of the columns, as the server compares them when
    it says "cached plan must not change result type" (equalRowTypes in tupdesc.c). Never 0; 1 if the message is not whole."""
    cdef Reader d = reader(message + 5, n - 5)
    cdef uint64_t h = 0xCBF29CE484222325   # FNV-1a
    cdef uint32_t result
    cdef uint16_t columns, _i
    cdef const uint8_t *at
    cdef Py_ssize_t size, k
    if message[0] != ROW_DESCRIPTION:
        return 2
    columns = read_u16(&d)
    for _i in range(columns):
        at = read_cstr(&d, &size)
        for k in range(size + 1 if d.ok else 0):
            h = (h ^ at[k]) * <uint64_t>0x100000001B3
        read_bytes(&d, 6)        # table and number of the column there
        at = read_bytes(&d, 10)  # type, size, modifier
        for k in range(10 if d.ok else 0):
            h = (h ^ at[k]) * <uint64_t>0x100000001B3
        read_bytes(&d, 2)        # format: another for each Bind
    result = <uint32_t>(h ^ h >> 32)
    return 1 if not d.ok else (result if result > 2 else 3)


cdef int _grow_names(Names *m) noexcept nogil:
    cdef uint32_t cap = m.cap * 2 if m.cap else 8
    cdef Name *slots
    cdef uint32_t i, j
    slots = <Name*>calloc(cap, sizeof(Name))
    if slots == NULL:
        return -1
    for i in range(m.cap):
        if m.slots[i].name != NULL:
            j = m.slots[i].hash & (cap - 1)
            while slots[j].name != NULL:
                j = (j + 1) & (cap - 1)
            slots[j] = m.slots[i]
    free(m.slots)
    m.slots = slots
    m.cap = cap
    return 0


cdef int names_put(Names *m, StatementTable *t, const uint8_t *name, Py_ssize_t n, Statement *s) noexcept nogil:
    """`name` means `s` from here on; takes over the caller's reference (also when it fails). 0, or -1 without memory."""
    cdef uint32_t h = <uint32_t>_hash(name, n, 0)
    cdef Name *found = _find_name(m, name, n, h)
    cdef uint32_t i
    if found != NULL:
        statement_drop(t, found.statement)
        found.statement = s
        found.shape = 0
        return 0
    if (m.count + 1) * 4 > m.cap * 3 and _grow_names(m) < 0:
        statement_drop(t, s)
        return -1
    i = h & (m.cap - 1)
    while m.slots[i].name != NULL:
        i = (i + 1) & (m.cap - 1)
    m.slots[i].name = <char*>malloc(n + 1)
    if m.slots[i].name == NULL:
        statement_drop(t, s)
        return -1
    memcpy(m.slots[i].name, name, n)
    m.slots[i].name[n] = 0
    m.slots[i].size = <uint32_t>n
    m.slots[i].hash = h
    m.slots[i].statement = s
    m.slots[i].shape = 0
    m.count += 1
    return 0


cdef void _remove_name(Names *m, StatementTable *t, uint32_t i) noexcept nogil:
    """Empties a slot and closes the gap behind it, so that probing never meets a hole it should not."""
    cdef uint32_t j = i
    cdef uint32_t home
    free(m.slots[i].name)
    statement_drop(t, m.slots[i].statement)
    m.count -= 1
    while True:
        m.slots[i].name = NULL
        m.slots[i].statement = NULL
        while True:
            j = (j + 1) & (m.cap - 1)
            if m.slots[j].name == NULL:
                return
            home = m.slots[j].hash & (m.cap - 1)
            # j stays where it is if its home lies cyclically in (i, j]
            if (i < home <= j) if i <= j else (home > i or home <= j):
                continue
            break
        m.slots[i] = m.slots[j]
        i = j


cdef void names_remove(Names *m, StatementTable *t, const uint8_t *name, Py_ssize_t n) noexcept nogil:
    cdef Name *found = _find_name(m, name, n, <uint32_t>_hash(name, n, 0))
    if found != NULL:
        _remove_name(m, t, <uint32_t>(found - m.slots))


cdef int names_change(
    Names *m, StatementTable *t, const uint8_t *name, Py_ssize_t n, Statement *s, uint32_t batch,
) noexcept nogil:
    """`name` will mean `s` (NULL: nothing) if the server agrees; takes over the caller's reference. 0, or -1 without memory."""
    cdef Change *grown
    cdef char *copy = <char*>malloc(n + 1)
    if copy != NULL and m.n_changes == m.room:
        grown = <Change*>realloc(m.changes, (m.room * 2 + 4) * sizeof(Change))
        if grown != NULL:
            m.changes = grown
            m.room = m.room * 2 + 4
    if copy == NULL or m.n_changes == m.room:
        free(copy)
        statement_drop(t, s)
        return -1
    memcpy(copy, name, n)
    m.changes[m.n_changes].name = copy
    m.changes[m.n_changes].size = <uint32_t>n
    m.changes[m.n_changes].statement = s
    m.changes[m.n_changes].batch = batch
    m.changes[m.n_changes].gone = 0
    m.n_changes += 1
    return 0


cdef void names_answered(Names *m, StatementTable *t, bint happened) noexcept nogil:
    """The oldest change has been answered: made, or (an error, skipped) not."""
    cdef Change change
    if m.n_changes == 0:
        return
    change = m.changes[0]
    m.n_changes -= 1
    memmove(m.changes, m.changes + 1, m.n_changes * sizeof(Change))
    if m.n_changes == 0:
        free(m.changes)
        m.changes = NULL
        m.room = 0
    if not happened:
        statement_drop(t, change.statement)
    elif change.statement == NULL:
        names_remove(m, t, <const uint8_t*>change.name, change.size)
    else:
        names_put(m, t, <const uint8_t*>change.name, change.size, change.statement)
    free(change.name)


cdef const char *names_of(const Names *m, uint32_t id, uint32_t *size) noexcept nogil:
    """What this client calls that statement, or NULL. Cold."""
    cdef uint32_t i
    for i in range(m.cap):
        if m.slots[i].name != NULL and m.slots[i].statement.id == id:
            size[0] = m.slots[i].size
            return m.slots[i].name
    for i in range(m.n_changes):
        if m.changes[i].statement != NULL and m.changes[i].statement.id == id:
            size[0] = m.changes[i].size
            return m.changes[i].name
    return NULL


cdef void names_clearing(Names *m) noexcept nogil:
    """An Execute goes that clears all of them: in what is sent behind it in its batch, nothing of before is defined. In the same
    batch whatever fails takes what is behind it along."""
    cdef uint32_t i
    m.clearing += 1
    for i in range(m.n_changes):
        m.changes[i].gone = 1


cdef void names_clear(Names *m, StatementTable *t) noexcept nogil:
    """All that is defined; what is under way stays."""
    cdef uint32_t i
    for i in range(m.cap):
        if m.slots[i].name != NULL:
            free(m.slots[i].name)
            statement_drop(t, m.slots[i].statement)
    free(m.slots)
    m.slots = NULL
    m.cap = 0
    m.count = 0


cdef void names_free(Names *m, StatementTable *t) noexcept nogil:
    while m.n_changes:
        names_answered(m, t, False)
    names_clear(m, t)


# ---------------------------------------------------------------- what a server knows

cdef inline uint32_t _spread(uint32_t id) noexcept nogil:
    return id * <uint32_t>2654435769


cdef Known *known_get(const KnownSet *k, uint32_t id) noexcept nogil:
    cdef uint32_t i
    if k.cap == 0:
        return NULL
    i = _spread(id) & (k.cap - 1)
    while k.slots[i].id:
        if k.slots[i].id == id:
            return &k.slots[i]
        i = (i + 1) & (k.cap - 1)
    return NULL


cdef int _grow_known(KnownSet *k) noexcept nogil:
    cdef uint32_t cap = k.cap * 2 if k.cap else 16
    cdef Known *slots = <Known*>calloc(cap, sizeof(Known))
    cdef uint32_t i, j
    if slots == NULL:
        return -1
    for i in range(k.cap):
        if k.slots[i].id:
            j = _spread(k.slots[i].id) & (cap - 1)
            while slots[j].id:
                j = (j + 1) & (cap - 1)
            slots[j] = k.slots[i]
    free(k.slots)
    k.slots = slots
    k.cap = cap
    return 0


cdef Known *known_put(KnownSet *k, uint32_t id) noexcept nogil:
    """Its entry, new or old; NULL without memory."""
    cdef Known *found = known_get(k, id)
    cdef uint32_t i
    if found != NULL:
        return found
    if (k.count + 1) * 4 > k.cap * 3 and _grow_known(k) < 0:
        return NULL
    i = _spread(id) & (k.cap - 1)
    while k.slots[i].id:
        i = (i + 1) & (k.cap - 1)
    k.slots[i].id = id
    k.slots[i].confirmed = 0
    k.slots[i].shape = 0
    k.count += 1
    return &k.slots[i]


cdef void known_remove(KnownSet *k, uint32_t id) noexcept nogil:
    cdef Known *found = known_get(k, id)
    cdef uint32_t i, j, home
    if found == NULL:
        return
    i = <uint32_t>(found - k.slots)
    j = i
    k.count -= 1
    while True:
        k.slots[i].id = 0
        while True:
            j = (j + 1) & (k.cap - 1)
            if k.slots[j].id == 0:
                return
            home = _spread(k.slots[j].id) & (k.cap - 1)
            if (i < home <= j) if i <= j else (home > i or home <= j):
                continue
            break
        k.slots[i] = k.slots[j]
        i = j


cdef uint32_t known_oldest(const KnownSet *k, uint32_t before) noexcept nogil:
    """The one used longest ago, in a batch earlier than `before` (edge case 23: never one bound in this batch); 0 if none."""
    cdef uint32_t i, found = 0, least = 0
    for i in range(k.cap):
        if k.slots[i].id and <int>(k.slots[i].used - before) < 0 and (found == 0 or <int>(k.slots[i].used - least) < 0):
            found = k.slots[i].id
            least = k.slots[i].used
    return found


cdef void known_free(KnownSet *k) noexcept nogil:
    free(k.slots)
    k.slots = NULL
    k.cap = 0
    k.count = 0


cdef class StatementsDoor:
    """The three tables for tests: one table of statements, one client, one server."""
    cdef StatementTable t
    cdef ParamTable params
    cdef Names names
    cdef KnownSet known

    def __cinit__(self):
        params_init(&self.params)
        statements_init(&self.t, &self.params)

    def __dealloc__(self):
        names_free(&self.names, &self.t)
        known_free(&self.known)
        statements_free(&self.t)

    cdef Statement *_intern(self, bytes body, int flags, bint *fresh) except NULL:
        cdef Statement *s = statement_intern(&self.t, <const uint8_t*>body, len(body), <uint8_t>flags, NULL, fresh)
        if s == NULL:
            raise MemoryError
        return s

    def put(self, bytes name not None, bytes body not None, int flags=3):
        """-> (id, fresh)"""
        cdef bint fresh = False
        cdef Statement *s = self._intern(body, flags, &fresh)
        number = s.id
        if names_put(&self.names, &self.t, <const uint8_t*>name, len(name), s) < 0:
            raise MemoryError
        return number, bool(fresh)

    def change(self, bytes name not None, bytes body, uint32_t batch=0):
        """A Parse (or, without a body, a Close) has been sent."""
        cdef bint fresh = False
        cdef Statement *s = NULL
        if body is not None:
            s = self._intern(body, 3, &fresh)
        if names_change(&self.names, &self.t, <const uint8_t*>name, len(name), s, batch) < 0:
            raise MemoryError

    def answered(self, bint happened): names_answered(&self.names, &self.t, happened)

    def get(self, bytes name not None, uint32_t batch=0):
        """(id, body), None, or "unsure"."""
        cdef Statement *s = NULL
        cdef NameState state = names_look(&self.names, <const uint8_t*>name, len(name), batch, &s)
        if state == NAME_UNSURE:
            return "unsure"
        return None if state == NAME_ABSENT else (s.id, (<const uint8_t*>&s.data[0])[:s.size])

    def remove(self, bytes name not None):
        names_remove(&self.names, &self.t, <const uint8_t*>name, len(name))

    def clear(self): names_clear(&self.names, &self.t)

    def server_put(self, uint32_t id, uint32_t batch):
        cdef Known *k = known_put(&self.known, id)
        k.used = batch

    def server_has(self, uint32_t id): return known_get(&self.known, id) != NULL

    def server_remove(self, uint32_t id): known_remove(&self.known, id)

    def server_oldest(self, uint32_t before): return known_oldest(&self.known, before)

    @property
    def counts(self):
        """(statements, of these unused, names, on the server)"""
        return self.t.count, self.t.unused, self.names.count, self.known.count

    @staticmethod
    def server_name(uint32_t id):
        cdef uint8_t name[STATEMENT_NAME_BYTES]
        cdef Py_ssize_t n = statement_name(id, &name[0])
        return (<const uint8_t*>&name[0])[:n]
