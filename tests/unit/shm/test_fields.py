"""The table of numbers: complete, and laid out without overlap."""

import pytest

from proxy.shm import fields
from proxy.shm.fields import FIELDS, LAYOUT, WORDS, Kind, Owner, Scope

RDS_METRICS = [
    "AvailabilityPercentage",
    "ClientConnections",
    "ClientConnectionsClosed",
    "ClientConnectionsInSetup",
    "ClientConnectionsNoTLS",
    "ClientConnectionsReceived",
    "ClientConnectionsSetupFailedAuth",
    "ClientConnectionsSetupSucceeded",
    "ClientConnectionsTLS",
    "DatabaseConnectionRequests",
    "DatabaseConnectionRequestsWithTLS",
    "DatabaseConnections",
    "DatabaseConnectionsBorrowLatency",
    "DatabaseConnectionsCurrentlyBorrowed",
    "DatabaseConnectionsCurrentlyInTransaction",
    "DatabaseConnectionsCurrentlySessionPinned",
    "DatabaseConnectionsSetupFailed",
    "DatabaseConnectionsSetupSucceeded",
    "DatabaseConnectionsWithTLS",
    "MaxDatabaseConnectionsAllowed",
    "QueryDatabaseResponseLatency",
    "QueryRequests",
    "QueryRequestsNoTLS",
    "QueryRequestsTLS",
    "QueryResponseLatency",
]


def test_every_metric_of_rds_proxy_has_a_field() -> None:
    assert len(RDS_METRICS) == 25
    assert {field.metric for field in FIELDS if field.metric} == set(RDS_METRICS)


def test_fields_are_named_like_their_metrics() -> None:
    for field in FIELDS:
        if field.metric:
            assert field.name.replace("_", "") == field.metric.lower()


@pytest.mark.parametrize("scope", list(Scope))
def test_fields_do_not_overlap(scope: Scope) -> None:
    taken: dict[int, str] = {}
    for name, place in LAYOUT[scope].items():
        for word in range(place.offset, place.offset + place.field.words):
            assert word not in taken, f"{name} and {taken.get(word)} share word {word}"
            taken[word] = name
    assert max(taken) < WORDS[scope]


@pytest.mark.parametrize("scope", list(Scope))
def test_the_two_threads_share_no_cache_line(scope: Scope) -> None:
    lines: dict[int, Owner] = {}
    for place in LAYOUT[scope].values():
        for word in range(place.offset, place.offset + place.field.words):
            owner = lines.setdefault(word // fields.LINE_WORDS, place.field.owner)
            assert owner is place.field.owner, place.field.name
    assert WORDS[scope] % fields.LINE_WORDS == 0


def test_derived_fields_have_no_memory_and_latencies_are_histograms_in_microseconds() -> None:
    for field in FIELDS:
        assert (field.words == 0) is (field.owner is Owner.DERIVED)
        assert (field.kind is Kind.HISTOGRAM) is field.name.endswith("_latency")
        assert field.kind is not Kind.HISTOGRAM or field.unit == "microseconds"
