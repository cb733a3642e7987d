"""What outlives processes: written again and again, read by others, interrupted at any point."""

import os
import random
import signal
from collections.abc import Iterator

import pytest

from proxy.control.accepted import Accepted, AcceptedFile
from proxy.model import Snapshot


@pytest.fixture
def file() -> Iterator[AcceptedFile]:
    file = AcceptedFile()
    yield file
    file.close()


def test_nothing_written_is_nothing_read(file: AcceptedFile) -> None:
    assert file.read() is None


def test_it_comes_back_as_it_was(file: AcceptedFile) -> None:
    accepted = Accepted("text ü", Snapshot(7, ()), 8, {"endpoints": {"taken": {"a/b": 1}}}, "[::1]:9187", 12.5, (-1,))
    file.write(accepted)
    assert file.read() == accepted


def test_of_many_writes_the_last_counts_and_space_is_used_again(file: AcceptedFile) -> None:
    rng = random.Random(5)
    for n in range(300):
        file.write(Accepted("x" * rng.randrange(5000), version=n))
        accepted = file.read()
        assert accepted is not None
        assert accepted.version == n
    assert os.fstat(file.fd).st_size < 20_000


def test_a_writer_killed_at_any_instruction_leaves_the_old_or_the_new(file: AcceptedFile) -> None:
    file.write(Accepted("0" * 1000, version=0))
    rng = random.Random(6)
    for _ in range(30):
        pid = os.fork()
        if pid == 0:
            n = 0
            while True:
                n += 1
                file.write(Accepted(str(n % 10) * rng.randrange(1000, 100_000), version=n))
        for _ in range(rng.randrange(50)):
            accepted = file.read()  # a reader beside the writer sees whole contents, too
            assert accepted is not None
            assert len(set(accepted.text)) == 1
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        accepted = file.read()
        assert accepted is not None
        assert set(accepted.text) == {str(accepted.version % 10)}
