"""From shared memory to /metrics: names, labels, sums over workers, histograms in seconds."""

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from proxy.model import Endpoint, EngineFamily, Proxy, Snapshot, Target, TargetGroup, TargetRole
from proxy.observe.aggregate import reason_names, samples
from proxy.observe.prometheus import BOUNDARIES, family_name, render
from proxy.reasons import CloseReason, PinReason
from proxy.shm._segment import Segment
from proxy.shm.fields import FIELDS, Kind, Labels

SNAPSHOT = Snapshot(
    1,
    (
        Proxy(
            "orders",
            EngineFamily.POSTGRESQL,
            (
                Endpoint(4, "default", TargetRole.READ_WRITE, "0.0.0.0", 5432),
                Endpoint(2, "readers", TargetRole.READ_ONLY, "0.0.0.0", 5433),
            ),
            TargetGroup((Target(3, "::1", 5432, TargetRole.READ_WRITE),)),
            (),
        ),
    ),
)
DEFAULT = {"proxy": "orders", "endpoint": "default"}
TARGET = {"proxy": "orders", "target": "[::1]:5432"}


def two_workers() -> Segment:
    # no fixture: pytest holds a fixture's value until after the test's descriptors have been counted
    return Segment(2, endpoints=8, targets=8, permits=16)


def scrape(segment: Segment, snapshot: Snapshot | None = SNAPSHOT, **extra: object) -> dict[str, Metric]:
    text, _ = render(samples(segment, snapshot, **extra), 5_000_000_000)  # type: ignore[arg-type]
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def value(family: Metric, labels: dict[str, str], suffix: str = "") -> float:
    (found,) = [each.value for each in family.samples if each.labels == labels and each.name.endswith(suffix)]
    return found


def test_counters_are_summed_over_workers() -> None:
    segment = two_workers()
    segment.add(0, "endpoint", 4, "client_connections_received", 3)
    segment.add(1, "endpoint", 4, "client_connections_received", 4)
    segment.add(1, "endpoint", 2, "client_connections_received", 9)
    family = scrape(segment)["sluiceway_client_connections_received"]
    assert family.type == "counter"
    assert value(family, DEFAULT, "_total") == 7
    assert value(family, {**DEFAULT, "endpoint": "readers"}, "_total") == 9
    assert "ClientConnectionsReceived" in family.documentation


def test_gauges() -> None:
    segment = two_workers()
    segment.set(0, "target", 3, "database_connections", 5)
    segment.set(1, "target", 3, "database_connections", 6)
    segment.set_limit(3, 11)
    families = scrape(segment)
    assert value(families["sluiceway_database_connections"], TARGET) == 11
    assert value(families["sluiceway_max_database_connections_allowed"], TARGET) == 11


def test_availability_only_where_it_is_measured() -> None:
    segment = two_workers()
    assert "sluiceway_availability_percentage" not in scrape(segment)
    assert value(scrape(segment, availability={3: 99.5})["sluiceway_availability_percentage"], TARGET) == 99.5


def test_reasons_are_labels() -> None:
    segment = two_workers()
    segment.add(0, "target", 3, "pins", 2, element=int(PinReason.PIN_LISTEN))
    segment.add(0, "endpoint", 4, "client_closes", 1, element=int(CloseReason.CLIENT_TERMINATED))
    families = scrape(segment)
    assert value(families["sluiceway_pins"], {**TARGET, "reason": "listen"}) == 2
    assert value(families["sluiceway_client_closes"], {**DEFAULT, "reason": "client_terminated"}) == 1
    assert len(families["sluiceway_pins"].samples) == 1  # reasons that never occurred have no series


def test_histograms_are_in_seconds() -> None:
    segment = two_workers()
    for microseconds in (10, 1000, 1000, 1100, 2_000_000, 500_000_000):
        segment.observe(1, "endpoint", 4, "query_response_latency", microseconds)
    family = scrape(segment)["sluiceway_query_response_latency_seconds"]
    assert family.type == "histogram"
    assert value(family, DEFAULT, "_count") == 6
    assert value(family, DEFAULT, "_sum") == pytest.approx(502.00311)
    buckets = {
        float(each.labels["le"]): each.value
        for each in family.samples
        if each.name.endswith("_bucket") and each.labels["endpoint"] == "default"
    }
    assert list(buckets) == sorted(buckets)
    assert list(buckets.values()) == sorted(buckets.values())
    assert buckets[1.6e-05] == 1
    assert buckets[0.000768] == 1
    assert buckets[0.001024] == 3
    assert buckets[0.001536] == 4
    assert buckets[2.09715] == 5
    assert buckets[float("inf")] == 6
    assert max(bound for bound in buckets if bound != float("inf")) > 300


def test_every_boundary_is_the_end_of_a_bucket() -> None:
    steps = [bound for _, bound in BOUNDARIES]
    assert steps[:4] == pytest.approx([16e-6, 24e-6, 32e-6, 48e-6])
    assert steps == sorted(set(steps))


def test_a_field_of_two_scopes_is_two_families() -> None:
    segment = two_workers()
    segment.observe(0, "endpoint", 4, "query_database_response_latency", 5)
    segment.observe(0, "target", 3, "query_database_response_latency", 5)
    families = scrape(segment)
    assert value(families["sluiceway_query_database_response_latency_seconds"], DEFAULT, "_count") == 1
    assert value(families["sluiceway_target_query_database_response_latency_seconds"], TARGET, "_count") == 1


def test_workers() -> None:
    segment = two_workers()
    segment.beat(1, 3_500_000_000)
    segment.add(0, "worker", 0, "events_dropped", 2)
    families = scrape(segment)
    ages = families["sluiceway_worker_front_heartbeat_age_seconds"].samples
    assert [(each.labels, each.value) for each in ages] == [({"worker": "1"}, 1.5)]  # worker 0 never gave a sign
    assert value(families["sluiceway_worker_events_dropped"], {"worker": "0"}) == 2


def test_without_a_snapshot_there_are_workers_only() -> None:
    segment = two_workers()
    families = scrape(segment, None)
    assert "sluiceway_build_info" in families
    assert all(name.startswith(("sluiceway_worker_", "sluiceway_build")) for name in families)


def test_the_names_of_families_are_unique_and_are_those_of_rds_proxy() -> None:
    names = [family_name(field) for field in FIELDS]
    assert len(names) == len(set(names))
    assert "sluiceway_database_connections_currently_session_pinned" in names
    assert "sluiceway_query_requests_no_tls" in names
    published = [field for field in FIELDS if field.metric]
    assert len({field.metric for field in published}) == 25


def test_the_kinds_of_all_fields_are_exposed() -> None:
    segment = two_workers()
    for field in FIELDS:
        if field.labels is not Labels.NONE:
            segment.add(0, field.scope.value, {"endpoint": 4, "target": 3}[field.scope], field.name, 1, element=1)
    segment.beat(0, 1)
    segment.beat_relay(0, 1)
    families = scrape(segment, availability={3: 100.0})
    for field in FIELDS:
        expected = {Kind.COUNTER: "counter", Kind.GAUGE: "gauge", Kind.HISTOGRAM: "histogram"}[field.kind]
        assert families[family_name(field)].type == expected, field.name
        assert families[family_name(field)].samples, field.name


def test_the_scraper_chooses_the_format() -> None:
    segment = two_workers()
    body, content_type = render(samples(segment, SNAPSHOT), 0, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_reason_names() -> None:
    pins = reason_names(Labels.PIN_REASON)
    assert pins[int(PinReason.PIN_ADVISORY_LOCK)] == "advisory_lock"
    assert 0 not in pins
    assert len(pins) == int(PinReason.PIN_REASON_COUNT) - 1
