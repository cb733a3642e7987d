"""PostgreSQL: the virtual session, statements, plan repair and pins over the protocol of `proxy/pgsql`."""

from proxy.engines.pgsql import _engine  # registers itself with the relay

__all__ = ["_engine"]
