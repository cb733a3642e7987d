"""Forking and reaping: the supervisor's hands. What to fork, and when, is the table's business.

Each child gets a line to the supervisor (a SEQPACKET pair): it says "ready" on it, and the supervisor tells the
controller there who lives. After the fork a child gives up what is the supervisor's: signal handlers, the
wake-up socket, the lines of its siblings. It dies with the supervisor (PR_SET_PDEATHSIG), by SIGTERM, so that
even then workers drain.
"""

import ctypes
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from proxy.net import packets
from proxy.observe import logline
from proxy.supervisor.table import Exited, Killed, Status

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_libc = ctypes.CDLL(None, use_errno=True)

log = logging.getLogger(__name__)

Body = Callable[[socket.socket], int]


class Children:
    def __init__(self) -> None:
        self.lines: dict[str, socket.socket] = {}  # our ends, by child
        self.debug = False

    def spawn(self, name: str, body: Body, not_theirs: Iterable[socket.socket]) -> int:
        """Forks; the child runs `body(line)` and exits with its result. `not_theirs`: sockets it closes first."""
        ours, theirs = packets.pair()
        parent = os.getpid()
        # A signal between fork and the child's reset would be written to the wake-up socket, which is still ours there.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
            pid = os.fork()
            if pid == 0:
                self._child(name, body, theirs, [ours, *not_theirs, *self.lines.values()], parent, before)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        old = self.lines.pop(name, None)
        if old is not None:
            old.close()
        self.lines[name] = ours
        return pid

    def _child(
        self,
        name: str,
        body: Body,
        line: socket.socket,
        closed: list[socket.socket],
        parent: int,
        mask: set[int | signal.Signals],
    ) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_DFL)
            # HUP comes from a terminal to all of us, and INT too; the one is the supervisor's to answer, the other is
            # handled as soon as the child has anything to lose
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            for sock in closed:
                sock.close()
            set_name(name)
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:  # it died before we could ask
                os._exit(1)
            logline.install(name, debug=self.debug)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            code = body(line)
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
        except BaseException:
            log.critical("unexpected error", exc_info=True)
        finally:
            # no atexit, no finalisers: they are the parent's
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except OSError:
                    pass
            os._exit(code)

    def tell(self, name: str, message: packets.Message) -> None:
        """Best effort: a child that does not read its line is not waited for."""
        line = self.lines.get(name)
        if line is not None:
            try:
                packets.send(line, message)
            except OSError:
                pass

    def hear(self, name: str) -> list[packets.Message]:
        """All that the child has said. Its line closes with it."""
        heard: list[packets.Message] = []
        line = self.lines.get(name)
        while line is not None:
            try:
                message, fd = packets.receive(line)
            except BlockingIOError:
                break
            except ValueError:
                continue
            except (EOFError, OSError):
                self.lines.pop(name).close()
                break
            if fd is not None:
                os.close(fd)
            heard.append(message)
        return heard

    @staticmethod
    def reap() -> Iterator[tuple[int, Status]]:
        """All the dead, ours or adopted."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            yield pid, Exited(code) if code >= 0 else Killed(-code)

    def ask(self, question: Callable[[], packets.Message]) -> packets.Message | int:
        """Runs `question` in a child of its own, for what must not be imported here: its answer, or its exit code."""

        def body(line: socket.socket) -> int:
            line.setblocking(True)
            packets.send(line, question())
            return 0

        pid = self.spawn("settings", body, ())
        _, status = os.waitpid(pid, 0)
        heard = self.hear("settings")
        line = self.lines.pop("settings", None)
        if line is not None:
            line.close()
        return heard[0] if heard else os.waitstatus_to_exitcode(status) or 1


def set_name(name: str) -> None:
    """What ps and top show (15 bytes)."""
    _libc.prctl(_PR_SET_NAME, f"sluice {name}".encode()[:15], 0, 0, 0)


def freeze() -> None:
    """Before the first fork: what exists now is never collected, so that no collector's mark copies a shared page."""
    gc.collect()
    gc.freeze()
