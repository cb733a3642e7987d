"""pg_dump through the proxy, restored through it: the copy's direct dump is the original's. And pgbench -i."""

from pathlib import Path

import pytest

from tests.integration.drivers.sides import Side, Sides, run

_SCHEMA = r"""
create schema "odd name";
create type "odd name".mood as enum ('calm', 'st''orm');
create domain positive as int check (value > 0);
create table "odd name"."T""x" (
  id bigserial primary key, m "odd name".mood, p positive, t text default E'a\tb', b bytea);
insert into "odd name"."T""x" (m, p, t, b)
  select 'calm', g, repeat(chr(1040 + g % 30), g % 50) || E'\t\\\n', sha256(g::text::bytea)
  from generate_series(1, 3000) g;
create index on "odd name"."T""x" (lower(t)) where p > 10;
create function "odd name".f(a int, variadic b text[]) returns setof text language plpgsql as
  $body$ begin return query select unnest(b) || a || $q$;'$q$; end $body$;
create view v as select id, m::text from "odd name"."T""x";
create materialized view mv as select count(*) c from v;
create table parts (k int, v text) partition by range (k);
create table parts_1 partition of parts for values from (0) to (500);
create table parts_2 partition of parts default;
insert into parts select g, md5(g::text) from generate_series(1, 1000) g;
create function tr() returns trigger language plpgsql as 'begin return new; end';
create trigger tr before insert on parts_1 for each row execute function tr();
comment on column parts.k is 'key; of "parts"';
select lo_from_bytea(0, decode(repeat('00ff', 5000), 'hex'));
create sequence s start 77;
select nextval('s');
"""


def program(side: Side, name: str, *arguments: str, stdin: str = "") -> str:
    done = run(side, side.tool(name), *arguments, stdin=stdin, limit_s=60)
    assert done.returncode == 0, f"{name} {arguments}: {done.stderr}"
    return done.stdout


def comparable(dump: str) -> list[str]:
    """Without the random token that newer versions put around a dump."""
    return [line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))]


def test_a_dump_through_the_proxy_restores_the_same_database(sides: Sides) -> None:
    direct, through = sides.direct, sides.through
    sides.clear()
    program(direct, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", stdin=_SCHEMA)
    expected = program(direct, "pg_dump", "--no-sync")
    dumped = program(through, "pg_dump", "--no-sync")
    assert comparable(dumped) == comparable(expected)
    assert len(expected) > 200_000
    inserts = ("--inserts", "--rows-per-insert=100", "--no-sync")
    assert comparable(program(through, "pg_dump", *inserts)) == comparable(program(direct, "pg_dump", *inserts))

    sides.clear()
    program(through, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", stdin=dumped)
    assert comparable(program(direct, "pg_dump", "--no-sync")) == comparable(expected)

    sides.clear()
    program(
        through,
        "psql",
        "-Xq1",
        "-v",
        "ON_ERROR_STOP=1",
        stdin=program(through, "pg_dump", "--schema-only", "--no-sync"),
    )


def test_a_parallel_dump_shares_its_snapshot(sides: Sides, tmp_path: Path) -> None:
    """Its workers import the leader's snapshot: three connections at once, which a pool of two cannot give."""
    direct, through = sides.direct, sides.through
    if through.name != "wide":
        pytest.skip("three connections at once")
    sides.clear()
    program(direct, "psql", "-Xq", "-v", "ON_ERROR_STOP=1", stdin=_SCHEMA)
    program(through, "pg_dump", "-j", "2", "-Fd", "--no-sync", "-f", f"{tmp_path}/dump")
    sides.clear()
    program(through, "pg_restore", "-j", "2", "-d", through.database, f"{tmp_path}/dump")
    count = program(direct, "psql", "-XAtc", 'select count(*), sum(length(t)) from "odd name"."T""x"')
    assert count.split("|")[0] == "3000"


def test_pgbench_initialises_and_vacuums(sides: Sides) -> None:
    """COPY, primary keys and VACUUM; with every kind of protocol a few transactions on what it made."""
    sides.clear()
    through = sides.through
    program(through, "pgbench", "-i", "-s", "1", "-I", "dtgvpf")
    counts = "select count(*), (select count(*) from pgbench_tellers) from pgbench_accounts"
    assert program(sides.direct, "psql", "-XAtc", counts).strip() == "100000|10"
    for mode in ("simple", "extended", "prepared"):
        told = program(through, "pgbench", "-n", "-M", mode, "-c", "2", "-j", "2", "-t", "20")
        assert "transactions actually processed: 40/40" in told
    balance = "select sum(abalance) = (select sum(delta) from pgbench_history), (select count(*) from pgbench_history)"
    assert program(sides.direct, "psql", "-XAtc", f"{balance} from pgbench_accounts").strip() == "t|120"
    sides.clear()
