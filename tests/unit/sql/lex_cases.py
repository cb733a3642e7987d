"""Texts and what they may do to a session, as the table `CASES`: (text, mask, database, standard_conforming_strings).

Read it as the manual of what pins, and of what `_effects` has to read (EFFECTS). A text found to be judged wrongly is
added here first; none is ever deleted.
"""

from typing import NamedTuple

from proxy.reasons import PinReason as P
from proxy.sql._lex import DROP_DATABASE, EFFECTS, EMPTY, ENDS, LOCAL, TRANSACTION_END, TRANSACTION_START


class Case(NamedTuple):
    text: bytes
    mask: int
    database: bytes = b""
    std_strings: bool = True


CASES: list[Case] = []


def _all(mask: int, *texts: bytes, std_strings: bool = True) -> None:
    CASES.extend(Case(text, mask, b"", std_strings) for text in texts)


def bit(*reasons: P) -> int:
    return sum(1 << reason for reason in reasons)


PREPARED, TEMPORARY, CURSOR, FUNCTION = map(
    bit, (P.PIN_PREPARED_SQL, P.PIN_TEMPORARY_OBJECT, P.PIN_CURSOR, P.PIN_FUNCTION)
)
LISTEN, LOAD, SEQUENCE, LOCK, DO, UNREADABLE = map(
    bit, (P.PIN_LISTEN, P.PIN_LOAD, P.PIN_SEQUENCE, P.PIN_ADVISORY_LOCK, P.PIN_DO_BLOCK, P.PIN_UNREADABLE)
)

# ---------------------------------------------------------------- nothing at all
_all(EMPTY, b"", b" \t\r\n\f\v", b";", b" ; ;; ", b"-- nothing", b"/* no */ -- thing\n;", b"/*/**/*/")

# ---------------------------------------------------------------- nothing that stays behind
_all(
    0,
    b"select 1",
    b"SELECT 'SET x = 1'",
    b"SELECT 1;",
    b"(((select 1)))",
    b"()",
    b"update t set a = 1",
    b"UPDATE t SET SET = 1, role = 2",
    b"ALTER TABLE t SET SCHEMA s",
    b"alter role r set work_mem = '1MB'",
    b"alter database d set work_mem = '1MB'",
    b"ALTER SYSTEM SET work_mem = '1MB'",
    b"insert into t (listen, load, set) values (1, 2, 3)",
    b"create function f() returns int language sql set work_mem = '1MB' as 'select 1'",
    b"create rule r as on update to t do also (select 1; select 2)",
    b"create trigger g before insert on t for each row execute function f()",
    b"create or replace view v as select 1",
    b"create unlogged table t (a int)",
    b"CREATE TABLE temp (a int)",
    b"create database_x",
    b"grant execute on function f() to public",
    b"show search_path",
    b"explain select 1",
    b"explain analyze verbose select 1",
    b"EXPLAIN (ANALYZE, BUFFERS) SELECT 1",
    b"explain (select 1)",
    b"with q as (select 1) select * from q",
    b"copy t from stdin",
    b"call p()",
    b"begin_work",
    b"select a.set, b.reset from a, b",
    b"setx = 1",
    b"set$x = 1",
    b"\xef\xbb\xbfset x = 1",  # a byte order mark is a letter: the server sees the word "\ufeffset"
    b"lock table t",
)

# ---------------------------------------------------------------- SET, RESET
_all(
    EFFECTS,
    b"set x = 1",
    b"SET x TO 1",
    b"sEt x to 1",
    b" \n/* a */ -- b\n set search_path = a, b",
    b"set session x = 1",
    b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    b"set session transaction read only",
    b"set time zone 'UTC'",
    b"set names 'UTF8'",
    b"set schema 'x'",
    b"set xml option document",
    b"set transaction_isolation = 'serializable'",
    b'set "work_mem" = 1',
    b'set "role" = x',
    b'SET "LOCAL" = 1',
    b"select 1; set x = 1",
    b"select 1;set x=1;select 2",
    b"select ';'; set x = 1; select ';'",
    b"select (1; set x = 1); set x = 1",
    b"(set x = 1",
    b"select 1 ;; set x = 1",
    b"set/**/x=1",
    b"set--\nx=1",
    b"set",
    b"set session",
    b"set transaction.x = 1",
    b"set constraints.x = 1",
    b"set session.x = 1",
    b"reset x",
    b"RESET ALL",
    b"reset session.x",
    b'reset "role"',
    b"reset",
)
_all(EFFECTS | LOCAL, b"set local.x = 1", b"set local . x to 1", b"set local x = 1; set x = 1")
_all(0, b"SET TRANSACTION READ ONLY", b"set transaction snapshot '1'", b"set constraints all deferred")
_all(
    LOCAL,
    b"set local x = 1",
    b"SET LOCAL ROLE r",
    b"set local session authorization r",
    b"Set /* a */ Local -- b\n x = 1",
    b"set local",
    b"set local x.y = 1",
)
_all(
    bit(P.PIN_SETTING),
    b"update pg_settings set setting = '1MB' where name = 'work_mem'",
    b'UPDATE ONLY pg_catalog."pg_settings" SET setting = 1',
    b"with a as (select 1) update pg_settings set setting = 1",
    b"explain analyze update pg_settings set setting = 1",
    b"select 1; update pg_settings set setting = 1",
)
_all(0, b"select * from pg_settings", b"update t set a = 1; select * from pg_settings", b"update t set pg_setting = 1")
# the generator does not go back with the transaction
_all(FUNCTION | LOCAL, b"set local seed = 0.5", b"SET LOCAL Seed TO DEFAULT", b'set local "seed" = 0.5')
_all(
    EFFECTS,
    b"set role r",
    b"SET ROLE NONE",
    b"set role = 'r'",
    b"set session role r",
    b"set session authorization r",
    b"SET SESSION AUTHORIZATION DEFAULT",
    b"set session session authorization r",
    b"set session_authorization = r",
    b"reset role",
    b"RESET SESSION AUTHORIZATION",
    b"reset session_authorization",
)

# ---------------------------------------------------------------- set_config and functions of its kind
_all(
    EFFECTS,
    b"select set_config('a', 'b', false)",
    b"SELECT SET_CONFIG('a', 'b', FALSE)",
    b"select pg_catalog.set_config('a', 'b', false)",
    b"select pg_catalog . set_config /* x */ -- y\n ('a', 'b', false)",
    b"select \"set_config\"('a', 'b', false)",
    b"select \"pg_catalog\".\"set_config\"('a', 'b', false)",
    b"select U&\"set_config\"('a', 'b', false)",
    b"select set_config($1, $2, $3)",
    b"select set_config('a', 'b', 't')",
    b"select set_config('a', 'b', not true)",
    b"select set_config('a', 'b', true and false)",
    b"select set_config('a', 'b', (true))",
    b"select set_config('a', f(1, 2, true), false)",
    b"select set_config('a', true)",
    b"select set_config('a', 'b', false, true)",
    b"select set_config('a', 'b', is_local => true)",
    b"select set_config(setting_name => 'a', is_local => false, new_value => true)",
    b"select set_config('a', 'b', \"true\")",
    b"select set_config('a', 'b', true",
    b"select set_config(",
    b"values (set_config('a','b',false))",
    b"update t set a = set_config('a','b',false)",
)
_all(
    EFFECTS | LOCAL,
    b"select set_config('a', set_config('b', 'c', false), true)",
    b"select set_config('a', set_config('b', 'c', true), true)",  # too much: one call is followed at a time
    b"select set_config('a', 'b', true), set_config('a', 'b', false)",
)
_all(
    LOCAL,
    b"select set_config('a', 'b', true)",
    b"SELECT set_config('a', f(1, (2), 3), TRUE )",
    b"select set_config('a', $1, true), set_config('b', $2, true)",
    b"select set_config('a', 'b,c', /* x */ true -- y\n)",
    b"select \"set_config\"('a', $$b$$, true)",
)
_all(
    0,
    b"select set_config",
    b"select set_config from t",
    b"select 'set_config(1,2,false)'",
    b"select my_set_config('a', 'b', false)",
    b"select set_configs('a', 'b', false)",
    b'select "SET_CONFIG"(1)',
    b'select "set_config "(1)',
    b'select "set""config"(1)',
    b"select set_config, (1)",
    b"select set_config_('a'), _set_config('b'), set_config$('c'), set_config\xc3\xa9('d')",
)
_all(
    FUNCTION,
    b"select setseed(0.5)",
    b"select dblink_connect('a', 'b')",
    b"select pg_create_logical_replication_slot('s', 'test_decoding', true)",
    b"select * from pg_catalog.pg_create_physical_replication_slot('s', false, true)",
    b"select pg_copy_logical_replication_slot('a', 'b', true), pg_copy_physical_replication_slot('a', 'b', true)",
)
_all(FUNCTION | LOCAL, b"select setseed(set_config('a', '1', true)::float)")
_all(
    FUNCTION | PREPARED,  # what a prepared statement calls, each EXECUTE calls
    b"prepare p as select set_config('a', 'b', false)",
    b"prepare p as select 1, \"set_config\"('a', 'b', true)",
    b"prepare p as select 1; select set_config('a', 'b', false)",  # too much
)
_all(EFFECTS | PREPARED, b"select set_config('a', 'b', false); prepare p as select 1")
_all(FUNCTION | EFFECTS, b"select setseed(0.5), set_config('a', 'b', false)")

# ---------------------------------------------------------------- locks, sequences
_all(
    LOCK,
    b"select pg_advisory_lock(1)",
    b"select pg_advisory_lock_shared(1, 2)",
    b"SELECT PG_TRY_ADVISORY_LOCK(1)",
    b"select * from pg_catalog.pg_try_advisory_lock_shared (1)",
    b"select 1 where exists (select pg_advisory_lock(1))",
)
_all(
    0,
    b"select pg_advisory_xact_lock(1), pg_advisory_xact_lock_shared(1)",
    b"select pg_try_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1)",
)
_all(LOCK | TRANSACTION_END, b"savepoint a; select pg_advisory_lock(1); commit")  # outlives the transaction
_all(
    ENDS,
    b"select pg_advisory_unlock(1), pg_advisory_unlock_all()",
    b'select "pg_advisory_unlock_shared"(1)',
    b"select pg_catalog.PG_ADVISORY_UNLOCK /* */ (1)",
)
_all(0, b"select pg_advisory_unlock, pg_advisory_unlocks(1), 'pg_advisory_unlock(1)'")
_all(LOCK | ENDS, b"select pg_advisory_lock(1), pg_advisory_unlock(1)")
_all(
    SEQUENCE,
    b"select nextval('s')",
    b"insert into t values (nextval('s'), 1)",
    b"select setval('s', 1)",
    b"SELECT CurrVal ('s')",
    b"select lastval()",
    b"select \"nextval\"('s')",
    b"select U&\"nextval\" ('s')",
    b"alter table t alter a set default nextval('s'::regclass)",
    b"select 1e5nextval('s')",
    b"select -nextval('s')",
    b"select 1-nextval('s')",
    b"select 1/nextval('s')",
    b"select $1nextval('s')",
    b"select [nextval('s')]",
    b"select 'a'nextval('s')",
    b"select $$a$$nextval('s')",
    b"select \"a\"nextval('s')",
)
_all(0, b"select nextval from t", b"select 'nextval(1)'", b"select nextval.a(1)", b"select nextvals(1), anextval(1)")

# ---------------------------------------------------------------- DISCARD, LISTEN, LOAD, DO, cursors, PREPARE
_all(EFFECTS | ENDS, b"discard all", b"DISCARD TEMP", b";discard plans", b"discard")
_all(ENDS, b"unlisten *; notify c, 'x'", b"UNLISTEN c", b"fetch all from c; move c; close c", b"close all")
_all(0, b"select close, unlisten, discard, deallocate from t", b"truncate t; close_c")
_all(LISTEN | ENDS, b"listen c; unlisten c", b"unlisten c; listen c")
_all(LISTEN, b"listen c", b'LISTEN "C"', b"select 1;listen c", b"((listen c", b"listen")
_all(LOAD, b"load 'auto_explain'", b"LOAD 'x'")
_all(DO, b"do $$ begin end $$", b"DO LANGUAGE plpgsql 'begin end'", b"/**/do/**/$$begin end$$")
_all(
    CURSOR,
    b"declare c cursor with hold for select 1",
    b"DECLARE c BINARY INSENSITIVE NO SCROLL CURSOR WITH /* */ HOLD FOR SELECT 1",
)
_all(
    0,
    b"declare c cursor for select 1",
    b"declare c cursor without hold for select 1",
    b"declare c cursor for with hold as (select 1) select * from hold",
    b'declare c cursor with "hold"',
)
_all(
    PREPARED,
    b"prepare p as select 1",
    b"PREPARE p (int) AS SELECT $1",
    b"prepare p as set x = 1",
    b"prepare transaction as select 1",
    b"prepare transaction (int) as select 1",
    b'prepare "transaction" as select 1',
    b"prepare",
    b"prepare transaction",
    b"execute p",
    b"EXECUTE p(1)",
    b"explain execute p",
    b"EXPLAIN ANALYZE EXECUTE p(1)",
    b"explain analyze verbose execute p",
    b"explain (analyze, format json) execute p",
    b"create table t as execute p",
    b"create table t (a, b) with (fillfactor = 10) as execute p(1)",
    b"explain create table t as execute p",
)

_all(EFFECTS | ENDS, b"deallocate p", b"DEALLOCATE ALL", b"deallocate prepare p", b'deallocate "p"', b"deallocate")
_all(EFFECTS | ENDS | PREPARED, b"deallocate p; prepare p as select 1")

# ---------------------------------------------------------------- temporary objects
_all(
    TEMPORARY,
    b"create temp table t (a int)",
    b"CREATE TEMPORARY TABLE t (a int)",
    b"create local temp table t (a int)",
    b"create global temporary table t (a int)",
    b"create temp view v as select 1",
    b"create or replace temp view v as select 1",
    b"create or replace temporary recursive view v (a) as select 1",
    b"create temporary sequence s",
    b"create/**/temp--\ntable t (a int)",
    b"explain analyze create temp table t as select 1",
    b"select 1 into temp t",
    b"select 1 into temporary table t",
    b"SELECT 1 INTO LOCAL TEMP t",
    b"select a into global temporary t from b",
    b"select 1into temp t",
    b"select 1e5into temp t",
    b"select 1.into temp t",
    b"select 1.5e-3into temp t",
    b"select .5into temp t",
    b"select $1into temp t",
    b"select 'a'into temp t",
    b"with q as (select 1) select * into temp t from q",
    b"select insert into temp t from a",
    b"select insert into temp table t from a",
    b'select a as insert into temp "t" from a',
    b"with q as (select 1) select insert into local temp table t from a",
    b"create table pg_temp.t (a int)",
    b'create table "pg_temp".t (a int)',
    b"select * from pg_temp_3.t",
    b"select PG_TEMP.f()",
    b'create table U&"pg_temp".t (a int)',
    b"create function f() returns int language sql set search_path = a, pg_temp as 'select 1'",
)
_all(
    0,
    b"insert into temp values (1)",
    b"insert into temp (a) values (1)",
    b"insert into temp select 1",
    b"insert into temp as t values (1)",
    b"insert into temp default values",
    b"insert into temp overriding user value select 1",
    b"with q as (select 1) insert into temp select * from q",
    b"merge into temp using a on true when matched then delete",
    b"insert into temp.t values (1)",
    b"select temp from t",
    b"select temp, temporary from local temp",
    b'select 1 into "temp"',
    b'create "temp" table',
    b"insert into \"temp\" values ('create temp table')",
    b"select pg_temp_x, pg_temperature, my_pg_temp, pg_temp_3x, 'pg_temp.t'",
    b'select "PG_TEMP"',
)
_all(TEMPORARY | PREPARED, b"create temp table t as execute p")
_all(TEMPORARY | ENDS, b"drop table pg_temp . t")
_all(ENDS, b"drop table t", b"DROP VIEW IF EXISTS v", b"explain drop table t", b"drop")
_all(TEMPORARY | EFFECTS | LISTEN, b"create temp table t(); set x = 1; listen c")
_all(SEQUENCE | LOCK, b"select nextval('s'), pg_advisory_lock(1)")

# ---------------------------------------------------------------- where strings, names and comments end
_all(
    0,
    b"select ''';listen c'",
    b"select 'a' 'b;listen c'",
    b"select 'a'\n'b;listen c'",
    b"select 'a' -- '\n '; listen c'",
    b"select e'\\'; listen c'",
    b"select E'\\\\\\'; listen c'",
    b"select e'a'\n'\\'; listen c'",
    b"select E'a' --\n '\\'; listen c'",
    b"select n'; listen c'",
    b"select b'; listen c'",
    b"select x'a\\'||'; listen c'",
    b"select u&'a\\'||'; listen c'",
    b"select U&'d\\0061t;listen c'",
    b'select "a"";listen c"',
    b'select ";listen c"',
    b'select u&";listen c"',
    b"select $$;listen c$$",
    b"select $$';listen c$$",
    b"select $a$ $$;listen c$$ $a$",
    b"select $a$ $b$;listen c$ab$ $A$ $a;listen c$a $a$",
    b"select $a$$b$a$",
    b"select $_\xc3\xa9$;listen c$_\xc3\xa9$",
    b"select $" + b"t" * 64 + b"$;listen c$" + b"t" * 64 + b"$",
    b"select 1 /* ;listen c */",
    b"select 1 /* /* */ ;listen c */",
    b"select 1 /*/ ;listen c */",
    b"select 1 /*/*/;listen c*/*/",
    b"select 1 /***/+/* * / ;listen c **/",
    b"select 1 --;listen c",
    b"select 1 +--;listen c\r1",
    b"select 1 */* ;listen c */ 2",
    b"select 1 <--;listen c\n2",
    b"select 1 ---;listen c",
    b"select 1 -/* ;listen c */ 2",
    b"select 1 //* ;listen c */ 2",
    b"select 1e-- ;listen c",
    b"select 'a' -\n- '; listen c'",
    b"select a$$;select b$$",
    b"select a$b$;select c$b$",
    b"select 1..2, 1.5.listen, .5, 5., 0x1F, 1_000, 1e5, 1e+5, 1e-5",
    b"select \xff\xfe",
    b"select u & 'a', u&b, u, e, b, x, n",
)
_all(
    LISTEN,
    b"select ''; listen c",
    b"select 'a' -- '\r\n\t ; listen c",
    b"select ''''; listen c",
    b"select 'a''b'; listen c",
    b"select '\\'; listen c",
    b"select 'a'\n'\\'; listen c",
    b"select e'\\\\'; listen c",
    b"select E''; listen c",
    b"select e'a' '\\'; listen c",  # not on a new line: a second, plain string
    b"select fe'\\'; listen c",
    b"select _e'\\'; listen c",
    b"select 1-e'\\''; listen c",
    b"select b'\\'; listen c",
    b"select X'\\'; listen c",
    b"select u&'\\'; listen c",
    b"select u &'\\'; listen c",
    b'select """"; listen c',
    b"select $$'$$; listen c",
    b"select $a$ $ $$ $b$ $a $aa$ $a$; listen c",
    b"select $$$$; listen c",
    b"select $a$$a$; listen c",
    b"select $a$$$a$; listen c",
    b"select $1$$'$$; listen c",
    b"select 1$$'$$; listen c",
    b"select a$$; listen c -- $$",
    b"select a$b$; listen c",
    b"select \xc3\xa9$a$; listen c",
    b"select $1; listen c",
    b"select $; listen c",
    b"select $a; listen c",
    b"select $a-$; listen c",
    b"select $1a$; listen c",
    b"select $a; listen c; $listen",
    b"/* /* */ */ listen c",
    b"/**/listen c",
    b"/*/*/ */*/listen c",
    b"/* ' */listen c -- '",
    b"-- /*\nlisten c",
    b"-- '\rlisten c",
    b"select 1 - - 1; listen c",
    b"select 1 / 2 * 3; listen c",
    b"select 1 / * 3; listen c",
    b"select 'a' - 1; listen c",
    b"select 1e; listen c",
    b"select 1e+; listen c",
    b"select 1e-; listen c",
    b"select 'listen c'; -- x\n LISTEN c",
    b")listen c",
    b"select ); listen c",
)
_all(LISTEN | TRANSACTION_END, b"create function f() returns int begin atomic select 1; end; listen c")
_all(0, b"select '\\'; listen c'", b"select e'\\'; listen c'", b"select n'\\'; listen c'", std_strings=False)
_all(0, b"select 'a'\n'\\'; listen c'", b"select 'a' '\\'; listen c'", std_strings=False)
_all(LISTEN, b"select '\\\\'; listen c", b"select b'\\'; listen c", b"select X'\\'; listen c", std_strings=False)
_all(LISTEN, b"select ''''; listen c", b"select $$\\$$; listen c", b'select "\\"; listen c', std_strings=False)

# ---------------------------------------------------------------- what cannot be read to the end, or not for certain
_all(
    UNREADABLE,
    b"'",
    b"select 'a",
    b"select 'a''",
    b"select e'\\'",
    b"select e'\\",
    b"select b'1",
    b"select u&'a",
    b"select 'a'\n'b",
    b'select "a',
    b'select "a""',
    b'select u&"',
    b"select $$",
    b"select $a$ $A$",
    b"select $a$ $a",
    b"$$ $",
    b"/*",
    b"select 1 /* /* */",
    b"select 1 /*/",
    b"select 1 /* *",
    b"select 1 /* /",
    b"select $" + b"t" * 65 + b"$ $" + b"t" * 65 + b"$; listen c",
    b'select u&"s\\0065t_config"(1)',
    b"select u&\"s!0065t_config\" uescape '!' (1)",
    b"select u&'!0061' UESCAPE '!'",
    b'select u&"' + b"x" * 80 + b'\\0061"',
)
_all(UNREADABLE | LISTEN, b"listen c; select '", b"listen c /*")
_all(UNREADABLE, b"select '\\'", b"select 'a'\n'\\'", std_strings=False)

# ---------------------------------------------------------------- transactions, databases
_all(
    TRANSACTION_START,
    b"begin",
    b"BEGIN;",
    b"start transaction isolation level serializable",
    b"select 1; begin",
)
_all(
    TRANSACTION_END,
    b"commit",
    b"COMMIT AND CHAIN",
    b"end",
    b"/**/ End Work",
    b"rollback",
    b"abort transaction",
    b"rollback and no chain",
    b"ROLLBACK PREPARED 'gid'",
    b"commit; rollback; savepoint a; release a; end",
    b"prepare transaction 'gid'",
    b"PREPARE TRANSACTION $$gid$$",
    b"PREPARE /* */ TRANSACTION -- \n e'gid'",
    b"commit prepared 'gid'",
    b"select 1; commit",
    b"CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END",  # too much
)
_all(
    TRANSACTION_END | EFFECTS,  # which settings a savepoint had, only the server knows
    b"rollback to a",
    b"ROLLBACK WORK TO SAVEPOINT a",
    b"rollback /**/ transaction -- \n to a",
    b"abort to a",
    b"rollback; set x = 1",
)
_all(
    0,
    b"select commit, rollback, abort, 1 as end",
    b"savepoint a; release a",
    b'"commit"',
    b"select case when true then 1 end",
    b"call rollback()",
)
_all(TRANSACTION_END, b"rollback work and chain", b"rollback work a to b")
_all(TRANSACTION_END | EFFECTS, b"rollback a to b")  # no SQL: either would do
_all(TRANSACTION_START | EFFECTS, b"begin; set x = 1", b"set x = 1; begin")
_all(TRANSACTION_START | TRANSACTION_END | LOCAL, b"begin; set local x = 1; commit")
_all(TRANSACTION_START | TRANSACTION_END, b"rollback; begin")

CASES += [
    Case(b"drop database foo", DROP_DATABASE | ENDS, b"foo"),
    Case(b"DROP DATABASE Foo;", DROP_DATABASE | ENDS, b"foo"),
    Case(b'drop database "Foo"', DROP_DATABASE | ENDS, b"Foo"),
    Case(b'drop database "a""b"', DROP_DATABASE | ENDS, b'a"b'),
    Case(b'drop database u&"Foo"', DROP_DATABASE | ENDS, b"Foo"),
    Case(b'drop database u&"\\0046oo"', DROP_DATABASE | UNREADABLE | ENDS, b""),
    Case(b"drop database if exists foo", DROP_DATABASE | ENDS, b"foo"),
    Case(b"drop /**/ database -- x\n if exists /* y */ foo (force)", DROP_DATABASE | ENDS, b"foo"),
    Case(b"drop database foo with (force)", DROP_DATABASE | ENDS, b"foo"),
    Case(b"drop database if", DROP_DATABASE | ENDS, b"if"),
    Case(b"drop database if with (force)", DROP_DATABASE | ENDS, b"if"),
    Case(b"drop database caf\xc3\x89", DROP_DATABASE | ENDS, b"caf\xc3\x89"),
    Case(b"drop database " + b"X" * 63, DROP_DATABASE | ENDS, b"x" * 63),
    Case(b"drop database " + b"X" * 64, DROP_DATABASE | ENDS, b"x" * 63),
    Case(b"drop database " + b"x" * 62 + b"\xc3\xa9", DROP_DATABASE | ENDS, b"x" * 62),
    Case(b'drop database "' + b"x" * 100 + b'"', DROP_DATABASE | ENDS, b"x" * 63),
    Case(b"select 1; drop database foo; select 2", DROP_DATABASE | ENDS, b"foo"),
    Case(b"alter database foo rename to bar", DROP_DATABASE, b"foo"),
    Case(b'ALTER DATABASE "Foo" RENAME TO bar', DROP_DATABASE, b"Foo"),
    Case(b"alter database foo set tablespace bar", DROP_DATABASE, b"foo"),
    Case(b"create database foo template bar", DROP_DATABASE, b"bar"),
    Case(b"create database foo with owner = o template = \"Bar\" encoding 'utf8'", DROP_DATABASE, b"Bar"),
    Case(b"create database foo template = default", DROP_DATABASE, b"template1"),
    Case(b"create database foo", DROP_DATABASE, b"template1"),
    Case(b"create database foo template 'bar'", DROP_DATABASE, b""),
]
_all(
    0,
    b"alter database foo owner to bar",
    b"alter database foo reset all",
    b"alter table database rename to x",
    b"select 'drop database foo'",
    b"create table database (a int)",
    b"create database",
    b"comment on database foo is 'drop database foo'",
)
