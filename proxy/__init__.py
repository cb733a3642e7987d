"""Sluiceway: an open, self-hosted Amazon RDS Proxy for PostgreSQL and MySQL/MariaDB.

A query in nine stops, for the reader of this code:

1. `worker/main`               starts both threads of a worker
2. `dataplane/doorman`         accepts, TLS, startup, login; mails the ready client to the relay
3. `dataplane/_mailbox`        the connection moves whole: descriptor, TLS session, unread bytes
4. `dataplane/_relay`          bytes arrive
5. `engines/pgsql/_client`     what is it (`pgsql/_frontend`): message by message, never a copy
6. `sql/_lex`                  what it means for the session: does it pin?
7. `dataplane/_session`        do we hold a server
8. `dataplane/_pool`           take one, open one, wait, or refuse
9. `dataplane/_chan`           sends

The reply: `_relay` -> `engines/pgsql/_server` (`pgsql/_backend`, `pgsql/_owed`) -> the client; at the end of the
transaction the server goes straight to the longest waiter, else to the idle stack. Any doubt closes it, with a reason.
"""

__version__ = "0.1.0"
