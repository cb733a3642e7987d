"""The benchmark's arithmetic: ratios within rounds, CPU split, percentiles of a scrape."""

import os
from pathlib import Path

import pytest

from bench import demo
from bench.accounting import Cpu, cpu
from bench.load import Load, Sample, _latencies
from bench.report import Result

LOAD = Load("simple, 1", "select 1", 1)


def sample(transactions: int, cpu_s: float) -> Sample:
    return Sample(transactions, 2.0, 100.0, 200.0, Cpu(cpu_s, 1, 3))


def test_a_sample_divides_by_its_transactions() -> None:
    s = sample(1000, 0.04)
    assert (s.tps, round(s.cpu_us, 6), round(s.user_us, 6), round(s.sys_us, 6)) == (500.0, 40.0, 10.0, 30.0)


def test_ratios_are_taken_within_a_round() -> None:
    """The machine was twice as slow in the second round: the ratio of the medians would say something else."""
    rounds: list[dict[str, Sample | None]] = [
        {"peer": sample(1000, 0.04), "us": sample(1500, 0.03)},
        {"peer": sample(500, 0.04), "us": sample(750, 0.03)},
        {"peer": None, "us": sample(10, 0.03)},
    ]
    result = Result(LOAD, rounds)
    assert result.ratio("us", "peer", lambda s: s.tps) == pytest.approx(1.5)
    assert result.ratio("us", "peer", lambda s: s.cpu_us) == pytest.approx(0.5)
    assert result.value("us", lambda s: s.tps) == 375
    assert result.ratio("us", "nobody", lambda s: s.tps) is None


def test_cpu_is_counted_for_living_processes() -> None:
    before = cpu([os.getpid()])
    sum(range(2_000_000))
    used = cpu([os.getpid()]) - before
    assert 0 < used.exact < 5
    assert used.user + used.sys == pytest.approx(used.exact)
    assert cpu([2**22 + 1]) == Cpu()


def test_latency_is_from_end_to_end_of_each_client(tmp_path: Path) -> None:
    """client_id transaction latency script epoch us: the latency column itself is not trusted."""
    lines = ["0 0 9 0 100 0", "1 0 9 0 100 500", "0 1 9 0 100 2000", "1 1 9 0 100 4000", "0 2 9 0 101 0"]
    (tmp_path / "log.1").write_text("\n".join(lines) + "\n")
    found = [round(us) for us in _latencies(tmp_path, 100.0, 100.5)]
    assert found == [2000, 3500]


def test_percentile_between_two_scrapes() -> None:
    def scrape(*counts: int) -> dict[str, float]:
        bounds = ("0.001", "0.01", "+Inf")
        return {f'{demo.BORROW}{{le="{b}"}}': float(n) for b, n in zip(bounds, counts, strict=True)}

    before, after = scrape(100, 100, 100), scrape(190, 199, 200)
    assert demo.percentile(before, after, 0.5) == 0.001
    assert demo.percentile(before, after, 0.99) == 0.01
    assert demo.percentile(after, after, 0.5) is None
