"""Is an address that is to be served already somebody else's?

Workers listen with SO_REUSEPORT, so that each has a queue of its own. The price: a second proxy of the same user could
listen beside them, and the kernel would give every other client to it. So before the workers open an address that
this proxy does not have yet, the controller asks for it alone. One refusal here is also one error for the operator,
where each worker would have had its own.
"""

import socket
from collections.abc import Iterable, Iterator

from proxy.model import Endpoint, Snapshot


def taken(new: Snapshot, old: Snapshot) -> list[str]:
    """A sentence for each address of `new` that another process holds. Ports that `old` serves are our own."""
    ours = {endpoint.port for endpoint in _tcp(old)}
    asked = dict.fromkeys((e.host, e.port) for e in _tcp(new) if e.port not in ours)
    return [sentence for host, port in asked for sentence in _ask(host, port)]


def _tcp(snapshot: Snapshot) -> Iterable[Endpoint]:
    return (e for proxy in snapshot.proxies for e in proxy.endpoints if not e.host.startswith("/"))


def _ask(host: str, port: int) -> Iterator[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG)
    except OSError as error:
        yield f"cannot listen on {host} port {port}: {error.strerror}"
        return
    for family, _, _, _, address in dict.fromkeys(found):
        with socket.socket(family, socket.SOCK_STREAM) as sock:
            # connections of a predecessor that are still dying are no obstacle, a listener is
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind(address)
            except OSError as error:
                yield f"cannot listen on {host} port {port}: {error.strerror}"
                return
