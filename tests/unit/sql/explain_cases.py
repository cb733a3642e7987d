"""Texts of applications, drivers and poolers, and what is said of them, as `said()` of test_explain does.

A line per statement: its number, what pins it, what is followed (set, reset, ask, deallocate) and the notes; then what
only the text as a whole tells. Last what pins RDS Proxy, `?` in front of what its documentation leaves open.
"""

Lines = list[str]

# ---------------------------------------------------------------- every reason that a text can have
PINS: dict[bytes, tuple[Lines, str]] = {
    b"select set_config($1, $2, false)": (["1 SETTING"], "SETTING"),
    b"set session characteristics": (["1 SETTING"], "SETTING"),
    b"prepare p as select 1": (["1 PREPARED_SQL"], "PREPARED_SQL"),
    b"EXECUTE p(1)": (["1 PREPARED_SQL"], "PREPARED_SQL"),
    b"explain analyze execute p": (["1 PREPARED_SQL"], "PREPARED_SQL"),
    b"create temp table t (a int)": (["1 TEMPORARY_OBJECT"], "TEMPORARY_OBJECT"),
    b"CREATE TEMPORARY SEQUENCE s": (["1 TEMPORARY_OBJECT"], "TEMPORARY_OBJECT"),
    b"create or replace temp view v as select 1": (["1 TEMPORARY_OBJECT"], "TEMPORARY_OBJECT"),
    b"create local temporary table t (a int) on commit drop": (["1 TEMPORARY_OBJECT ENDS"], "TEMPORARY_OBJECT"),
    b"create table pg_temp.t (a int)": (["1 TEMPORARY_OBJECT"], "TEMPORARY_OBJECT"),
    b"select 1 into temp t": (["1 TEMPORARY_OBJECT"], "TEMPORARY_OBJECT"),
    b"select * from pg_temp.t": (["1 TEMPORARY_OBJECT"], ""),
    b"declare c cursor with hold for select 1": (["1 CURSOR"], "CURSOR"),
    b"declare c cursor for select 1": (["1"], "CURSOR"),
    b"listen c": (["1 LISTEN"], "LISTEN"),
    b"load 'auto_explain'": (["1 LOAD"], "LOAD"),
    b"select nextval('s')": (["1 SEQUENCE"], "SEQUENCE"),
    b"insert into t values (pg_catalog . \"setval\" ('s', 1))": (["1 SEQUENCE"], "SEQUENCE"),
    b"select u&\"nextval\"('s')": (["1 SEQUENCE"], "SEQUENCE"),
    b"select currval('s')": (["1 SEQUENCE"], "misled"),
    b"select lastval()": (["1 SEQUENCE"], "misled"),
    b"select nextval('s'); select lastval()": (["1 SEQUENCE", "2 SEQUENCE"], "SEQUENCE misled"),
    b"select pg_advisory_lock(1)": (["1 ADVISORY_LOCK"], "ADVISORY_LOCK"),
    b"select pg_try_advisory_lock_shared(1, 2)": (["1 ADVISORY_LOCK"], "ADVISORY_LOCK"),
    b"do $$ begin perform 1; end $$": (["1 DO_BLOCK"], ""),
    b"select 'open": (["1 UNREADABLE"], "?UNREADABLE"),
    b"listen c; select 'open": (["1 LISTEN", "2 UNREADABLE"], "LISTEN ?UNREADABLE"),
    b"/* open": (["1 UNREADABLE"], "?UNREADABLE"),
    b'select u&"s\\0065t_config"(1)': (["1 UNREADABLE"], "?UNREADABLE"),
    b"select setseed(0.5)": (["1 FUNCTION"], ""),
    b"set seed = 0.5": (["1 FUNCTION"], "SETTING"),
    b"set temp_buffers = 100": (["1 FUNCTION"], "SETTING"),
    b"select dblink_connect('a', 'b')": (["1 FUNCTION"], ""),
}

# ---------------------------------------------------------------- what pins RDS Proxy, and is followed here
FOLLOWED: dict[bytes, tuple[Lines, str]] = {
    b"SET search_path = a, b": (["1 set search_path"], "SETTING"),
    b"set session statement_timeout to '5s';": (["1 set statement_timeout"], "SETTING"),
    b"set time zone 'UTC'": (["1 set timezone"], "SETTING"),
    b"set role r": (["1 set role"], "SETTING"),
    b"set session authorization r": (["1 set session_authorization, role"], "SETTING"),
    b"set session characteristics as transaction read only": (["1 set default_transaction_read_only"], "SETTING"),
    b"set a = b || c": (["1 ask a"], "SETTING"),
    b"set a = default": (["1 reset a"], "SETTING"),
    b"reset search_path": (["1 reset search_path"], "SETTING"),
    b"reset all": (["1 RESET_ALL"], "SETTING"),
    b"select set_config('my.tenant', '7', false)": (["1 set my.tenant"], "SETTING"),
    b"select set_config('my.tenant', $1, false) from t": (["1 ask my.tenant"], "SETTING"),
    b"set client_encoding = 'sjis'": (["1 set client_encoding ENCODING"], "SETTING"),
    b"set names 'Shift_JIS-2004'": (["1 set client_encoding ENCODING"], "SETTING"),
    b"set names latin1": (["1 set client_encoding"], "SETTING"),
    b"discard all": (["1 DISCARD_ALL"], "DISCARD"),
    b"DISCARD PLANS": (["1 ENDS"], "DISCARD"),
    b"deallocate p": (["1 deallocate p ENDS"], "PREPARED_SQL"),
    b"deallocate all": (["1 DEALLOCATE_ALL ENDS"], "PREPARED_SQL"),
}

# ---------------------------------------------------------------- neither here nor there, or not documented
NOTHING: dict[bytes, tuple[Lines, str]] = {
    b"": (["EMPTY"], ""),
    b" ; -- nothing\n;": (["EMPTY"], ""),
    b"select 1": (["1"], ""),
    b"select 'set a = 1', 'listen c' -- nextval('s')": (["1"], ""),
    b"update t set a = 1 where declared": (["1"], ""),
    b"select nextval, setval from t": (["1"], ""),
    b"alter role r set work_mem = '1MB'": (["1"], ""),
    b"select pg_advisory_xact_lock(1), pg_advisory_xact_lock_shared(1)": (["1"], ""),
    b"select pg_try_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1)": (["1"], ""),
    b"insert into t (a) values (1) returning id": (["1"], ""),
    b"call p()": (["1"], ""),
    b"set local a = 1": (["1 LOCAL"], "?LOCAL_SETTING"),
    b"select set_config('a', 'b', true)": (["1 LOCAL"], "SETTING"),  # documented without an exemption
    b"select \"set_config\"('a', $1, true)": (["1 LOCAL"], "SETTING"),
    b"set transaction isolation level serializable": (["1 LOCAL"], "?TRANSACTION_SETTING"),
    b"set constraints all deferred": (["1 LOCAL"], "?TRANSACTION_SETTING"),
    b"set transaction_read_only = on": (["1 LOCAL"], "SETTING"),
    b"unlisten *": (["1 ENDS"], ""),
    b"close c": (["1 ENDS"], ""),
    b"drop table t": (["1 ENDS"], ""),
    b"select pg_advisory_unlock(1)": (["1 ENDS"], ""),
    b"drop database d": (["1 ENDS DROP_DATABASE"], ""),
    b"begin": (["1 TRANSACTION_START"], ""),
    b"commit": (["1 TRANSACTION_END"], ""),
    b"rollback to a": (["1 ROLLBACK_TO"], ""),
    b"prepare transaction 'x'": (["1 TRANSACTION_END"], ""),
    b"select 1\0; listen c": (["1", "2 LISTEN", "NUL"], "LISTEN"),
}

# ---------------------------------------------------------------- several statements; what drivers and poolers send
SEVERAL: dict[bytes, tuple[Lines, str]] = {
    # asyncpg, before a connection goes back to its pool
    b"SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;": (
        ["1 ENDS", "2 ENDS", "3 ENDS", "4 RESET_ALL"],
        "SETTING",
    ),
    # Npgsql, without and with prepared statements
    b"DISCARD ALL": (["1 DISCARD_ALL"], "DISCARD"),
    b"SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();"
    b"DISCARD SEQUENCES;DISCARD TEMP": (
        [
            "1 reset role, session_authorization",
            "2 RESET_ALL",
            *(f"{number} ENDS" for number in range(3, 8)),
        ],
        "SETTING DISCARD",
    ),
    # Prisma
    b"SET search_path = \"x\"; SET NAMES 'UTF8';": (["1 set search_path", "2 set client_encoding"], "SETTING"),
    # JDBC, psycopg2, SQLAlchemy, ActiveRecord
    b"SET extra_float_digits = 3": (["1 set extra_float_digits"], "SETTING"),
    b"SET application_name = 'PostgreSQL JDBC Driver'": (["1 set application_name"], "SETTING"),
    b"SET datestyle TO 'ISO'": (["1 set datestyle"], "SETTING"),
    b"SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED": (
        ["1 set default_transaction_isolation"],
        "SETTING",
    ),
    b"SET client_min_messages TO 'warning'": (["1 set client_min_messages"], "SETTING"),
    b"SET standard_conforming_strings = on": (["1 set standard_conforming_strings"], "SETTING"),
    b'DEALLOCATE "a1"': (["1 deallocate a1 ENDS"], "PREPARED_SQL"),
    b"begin; set local a = 1; set b = 1; commit": (
        ["1 TRANSACTION_START", "2 LOCAL", "3 set b", "4 TRANSACTION_END"],
        "SETTING ?LOCAL_SETTING",
    ),
    b";; select 1 ;; listen c ;": (["1", "2 LISTEN"], "LISTEN"),
    b"create rule r as on update to t do also (select 1; select 2); listen c": (["1", "2 LISTEN"], "LISTEN"),
    # said of the text: what its statements are not alone, and what stands behind a body whose `;` nobody can count
    b"prepare p as select 1; select set_config('a', 'b', false)": (
        ["1 PREPARED_SQL", "2", "together FUNCTION"],
        "SETTING PREPARED_SQL",
    ),
    b"create function f() returns int begin atomic select case when true then 1; end; end; set a = 1": (
        ["1 TRANSACTION_END", "2", "together SETTING"],
        "SETTING",
    ),
    # where a string with escapes ends is not read by `_effects`: what follows may be a call
    b"select e'\\';'; set a = 1": (["1 SETTING", "2 set a"], "SETTING"),
}

CASES = PINS | FOLLOWED | NOTHING | SEVERAL

# in a session with standard_conforming_strings = off
BACKSLASH: dict[bytes, tuple[Lines, str]] = {
    b"select '\\'; listen c'": (["1"], ""),
    b"select '\\\\'; listen c": (["1", "2 LISTEN"], "LISTEN"),
    b"set a = 'b'": (["1 set a"], "SETTING"),
    b"select '\\'": (["1 UNREADABLE"], "?UNREADABLE"),
}
