"""psql's transcripts, direct and through the proxy: what people and scripts do at a prompt."""

from pathlib import Path

import pytest

from tests.integration.drivers.sides import Say, Script, Side, Sides, run


def psql(say: Say, side: Side, script: str, *options: str, stdin: bool = True) -> None:
    """Runs `script`; says the output, the errors and the exit code."""
    command = [side.tool("psql"), "-X", *options]
    done = run(side, *command, stdin=script) if stdin else run(side, *command, "-c", script)
    say(done.stdout)
    say("stderr:", done.stderr)
    say("exit:", done.returncode)


def meta_commands(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
create table town (id int generated always as identity primary key, name text not null unique, area numeric(8,2));
create view large as select * from town where area > 100;
create index town_area on town (area) where area is not null;
create function twice(int) returns int language sql as 'select $1 * 2';
create type mood as enum ('calm', 'storm');
create schema other;
comment on table town is 'places; with a ; inside';
insert into town (name, area) values ('Aa', 12.5), ('Bö', 310), ('Cç', null);
\d
\d town
\d+ large
\di
\df twice
\dT mood
\dn
\dp
\dv
\sv large
\sf twice
\dconfig work_mem
\encoding
\pset null '(null)'
\x on
select * from town order by id;
\x off
\pset format csv
select * from town order by id;
\pset format aligned
select name, area from town \gx
select name, case when area > 100 then 'large' else 'small' end as kind, id from town order by 1 \crosstabview
select 'id is ' || id as line, name from town where id = 1 \gset got_
\echo :got_line :got_name
select format('select %L as made', name) from town order by id \gexec
select id, name, area, now() as t from town \gdesc
\c - -
select current_user, current_database(), inet_server_addr() is not null;
\conninfo
\echo :SQLSTATE :ROW_COUNT :SERVER_VERSION_NUM
\errverbose
""",
    )


def errors(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
create table child (id int primary key, n int check (n > 0));
selec 1;
\errverbose
select 1/0;
\echo :SQLSTATE :LAST_ERROR_MESSAGE
insert into child values (1, -1);
\errverbose
insert into child values (1, 1);
insert into child values (1, 2);
select * from nowhere;
select 'ü' || x'20' from child;
begin;
select 1;
select nothing;
select 2;
savepoint a;
commit;
\set VERBOSITY verbose
select 'abc'::int;
select $$unterminated dollar$$ || 1 || $1;
\set VERBOSITY sqlstate
select 1 from child where;
do $$ begin raise exception 'own'
  using errcode = 'P1234', detail = 'more', hint = 'do not', column = 'c', table = 't'; end $$;
\set VERBOSITY default
do $$ begin raise exception 'own' using errcode = 'P1234', detail = 'more', hint = 'do not'; end $$;
\set ON_ERROR_STOP on
select 1/0;
select 'not reached';
""",
    )


def notices(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
drop table if exists never;
do $$ begin raise notice 'n %', 1; raise warning 'w'; raise info 'i'; raise log 'l'; raise debug 'd'; end $$;
set client_min_messages = debug1;
do $$ begin raise debug 'seen'; end $$;
reset client_min_messages;
do $$ begin raise debug 'unseen'; end $$;
create table t (n int); create table if not exists t (n int);
begin; begin;
commit; commit;
\set VERBOSITY verbose
do $$ begin raise notice using message = 'big ' || repeat('x', 20000); end $$;
""",
    )


def many_statements(say: Say, side: Side) -> None:
    script = "select 1 as a; select 2 as b, 'x' as c; create table m (n int); insert into m values (1), (2); table m"
    psql(say, side, script, stdin=False)
    psql(say, side, "insert into m values (3); select 1/0; insert into m values (4)", stdin=False)
    psql(say, side, "begin; insert into m values (5); rollback; select count(*) from m", stdin=False)
    psql(say, side, "select 1 \\; select 2 \\; select 3;\n;;\n\nselect 'a;b' as \"c;d\" /* ; */ -- ;\n;\n")
    psql(say, side, "insert into m values (6);\nselect 1/0;\ntable m;\n", "-1")
    psql(say, side, "table m; vacuum m; select 1", stdin=False)
    psql(say, side, "table m;\nvacuum m;\nselect 1;\n", "-a", "-e")
    psql(say, side, "", stdin=False)
    psql(say, side, ";", stdin=False)
    psql(say, side, "-- nothing\n", stdin=False)


def transactions(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
create table acc (id int primary key, v int);
\set AUTOCOMMIT off
insert into acc values (1, 10);
rollback;
table acc;
\set AUTOCOMMIT on
begin isolation level serializable read only deferrable;
show transaction_isolation; show transaction_read_only;
insert into acc values (1, 1);
rollback;
\set ON_ERROR_ROLLBACK on
begin;
insert into acc values (1, 10);
insert into acc values (1, 11);
insert into acc values (2, 20);
commit;
table acc;
begin; savepoint s1; delete from acc; savepoint s2; insert into acc values (9, 9); rollback to s1; release s1;
select count(*) from acc; commit and chain; select 1; rollback and no chain;
begin; set local search_path = nowhere; show search_path; commit; show search_path;
start transaction; declare c cursor for select g from generate_series(1, 10) g;
fetch 3 c; move 2 c; fetch all c; close c; end;
prepare transaction 'not begun';
begin; insert into acc values (3, 30); prepare transaction 'tx1';
table acc;
commit prepared 'tx1';
table acc;
""",
    )


def cursors(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
\set FETCH_COUNT 3
select g, repeat('x', g) from generate_series(1, 10) g;
select g, 10 / (8 - g) from generate_series(1, 10) g;
select * from generate_series(1, 0) g;
\set FETCH_COUNT 500
select sum(length(t)), count(*) from (select repeat('y', 2000) t, g from generate_series(1, 3000) g) s;
select repeat(md5(g::text), 20) from generate_series(1, 1500) g;
\set FETCH_COUNT 0
declare held scroll cursor with hold for select g from generate_series(1, 6) g;
fetch 2 held;
fetch last held;
fetch backward 3 held;
close held;
fetch held;
""",
    )


def copy(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
create table c (id int, t text, b bytea);
\copy c (id, t) from stdin
1	one
2	tw\to
3	\N
\.
copy c from stdin with (format csv, header, null 'NIL');
id,t,b
4,"a, ""b""
c",\\xdeadbeef
5,NIL,NIL
\.
\copy c to stdout
\copy (select id, t from c order by id desc) to stdout with (format csv, header)
copy c (id) from stdin;
6
not a number
7
\.
select count(*) from c;
copy c (nothing) from stdin;
copy (select 1/(3 - g) from generate_series(1, 5) g) to stdout;
select 'after';
begin;
copy c (id) from stdin;
8
\.
rollback;
select count(*) from c;
copy c (id) from stdin; copy c (id) from stdin; select count(*) from c;
9
\.
10
\.
\copy c (id, t) from program 'seq 11 2000 | awk "{print \$1 \"\\t\" \"row\" \$1}"'
select count(*), sum(id), max(length(t)) from c;
""",
    )


def copy_binary(say: Say, side: Side) -> None:
    folder = Path(side.ca).parent
    psql(
        say,
        side,
        rf"""
create table src as select g as id, md5(g::text) as t, now() - now() as i from generate_series(1, 20000) g;
create table dst (like src);
\copy src to '{folder}/copy.bin' with (format binary)
\copy dst from '{folder}/copy.bin' with (format binary)
select count(*), sum(id), sum(hashtext(t)::bigint) from dst;
\copy dst from '{folder}/copy.bin' with (format text)
select count(*) from dst;
""",
    )


def large_objects(say: Say, side: Side) -> None:
    """libpq's large-object calls are FunctionCall messages (edge case 33)."""
    folder = Path(side.ca).parent
    source = folder / "object.bin"
    source.write_bytes(bytes(range(256)) * 700)
    psql(
        say,
        side,
        rf"""
\lo_import '{source}' 'a comment'
\set it :LASTOID
select length(lo_get(:it)), md5(lo_get(:it));
\lo_export :it '{folder}/object.out'
begin;
\lo_import '{source}'
rollback;
select count(*) from pg_largeobject_metadata;
\lo_unlink :it
\lo_unlink :it
\lo_export 1 '{folder}/none'
select 'alive';
""",
    )
    say((folder / "object.out").read_bytes() == source.read_bytes())


def session_state(say: Say, side: Side) -> None:
    psql(
        say,
        side,
        r"""
set work_mem = '5MB'; show work_mem;
set search_path to pg_catalog, "$user"; show search_path;
reset search_path; show search_path;
select set_config('application_name', 'renamed', false); show application_name;
set datestyle = 'German'; select date '2026-11-22'; set timezone = 'Asia/Tokyo'; select timestamptz '2026-11-22 00:00Z';
create temp table scratch (n int); insert into scratch select generate_series(1, 3);
table scratch;
create temp sequence s; select nextval('s'), nextval('s'); select currval('s'), lastval();
select pg_advisory_lock(42);
select count(*) from pg_locks where locktype = 'advisory' and objid = 42 and pid = pg_backend_pid();
select pg_advisory_unlock(42), pg_advisory_unlock(42);
prepare p (int) as select $1 + 1; execute p (41); deallocate p; execute p (1);
listen news; notify news, 'hello'; select pg_notify('news', 'again'); unlisten *; notify news, 'nobody';
set client_encoding = 'LATIN1';
select 'abc', octet_length('ä'::text);
\encoding utf8
show client_encoding;
set role none; set session authorization default; select session_user, current_user;
set no_such.thing = 'x'; show no_such.thing; set no_such_thing = 1;
discard temp; table scratch; discard all; show work_mem; show application_name;
load 'plpgsql';
""",
    )


@pytest.mark.parametrize(
    "script",
    [
        meta_commands,
        errors,
        notices,
        many_statements,
        transactions,
        cursors,
        copy,
        copy_binary,
        large_objects,
        session_state,
    ],
    ids=lambda script: script.__name__,
)
def test_psql_prints_the_same(script: Script, sides: Sides) -> None:
    sides.same(script, least=4)
