"""What the database of these tests holds: two roles to slip into, two schemas with a table `t` each, and a boss.

`app` is a member of both roles; `guest` sees schema s1 alone, so that a lookup of `t` depends on the role as well as on
the search_path. `boss` is a superuser: only those may SET SESSION AUTHORIZATION to somebody else. ALTER ROLE gives app
a work_mem of its own: what RESET goes back to is not what the server's configuration says.
"""

from tests.harness.postgres import Postgres

USERS = (("app", "apppw"), ("boss", "bosspw"))

_ROLES = """
create role clerk;
create role guest;
grant clerk, guest to app;
create role boss login superuser password 'bosspw';
alter role app set work_mem = '5MB'
"""
_OBJECTS = """
create schema s1;
create schema s2;
create table s1.t as select 'of s1' as v;
create table s2.t as select 'of s2' as v;
grant usage on schema s1 to app, clerk, guest;
grant usage on schema s2 to app, clerk;
grant select on s1.t to app, clerk, guest;
grant select on s2.t to app, clerk
"""


def build(pg: Postgres) -> None:
    """In the database `test`, as superuser."""
    pg.sql(_ROLES, _OBJECTS)


def password(user: str) -> str:
    return dict(USERS)[user]
