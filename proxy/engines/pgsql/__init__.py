"""PostgreSQL: the virtual session, statements, plan repair and pins over the protocol of `proxy/pgsql`."""

from proxy.engines.pgsql import _engine, family  # both register themselves

__all__ = ["_engine", "family"]
