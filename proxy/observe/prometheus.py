"""`/metrics`: the samples of `aggregate` in Prometheus' exposition format, through prometheus-client.

Names are `sluiceway_` + RDS Proxy's metric in snake_case. Prometheus' own customs decide the rest: counters end in
`_total`, latencies are histograms in seconds. A field that exists for endpoints and for targets makes two families,
because one family with two sets of labels would be counted twice in every sum.
"""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.observe.aggregate import Sample
from proxy.shm.fields import FIELDS, SUB_BUCKETS, Field, Kind, Scope
from proxy.shm.histogram import Histogram, upper_bound

__all__ = ["BOUNDARIES", "family_name", "render"]

PREFIX = "sluiceway"
MICRO = 1e-6

# Upper ends of Prometheus' buckets: two for each octave, 16 µs to 402 s (the longest borrow timeout is 300 s). All fall
# on ends of the histogram's own buckets, so that the counts are exact.
_FIRST_OCTAVE, _LAST_OCTAVE = 2, 27
BOUNDARIES: tuple[tuple[int, float], ...] = tuple(
    (bucket, upper_bound(bucket) * MICRO)
    for octave in range(_FIRST_OCTAVE, _LAST_OCTAVE)
    for bucket in (octave * SUB_BUCKETS - 1, octave * SUB_BUCKETS + SUB_BUCKETS // 2 - 1)
)

_NAMES_OF_TWO_SCOPES = {
    field.name for field in FIELDS for other in FIELDS if field.name == other.name and field.scope is not other.scope
}
_SHOWN_AS_AGE = {"heartbeat", "front_heartbeat"}  # the monotonic clock's zero means nothing outside this machine


def family_name(field: Field) -> str:
    """The metric's name, without the suffix that its kind adds."""
    parts = [PREFIX]
    if field.scope is Scope.WORKER or (field.scope is Scope.TARGET and field.name in _NAMES_OF_TWO_SCOPES):
        parts.append(field.scope.value)
    parts.append(field.name)
    if field.name in _SHOWN_AS_AGE:
        parts.append("age_seconds")
    elif field.name == "started":
        parts.append("timestamp_seconds")
    elif field.kind is Kind.HISTOGRAM:
        parts.append("seconds")
    return "_".join(parts)


class _Samples(Collector):
    """One scrape's numbers as metric families."""

    def __init__(self, samples: Iterable[Sample], now_ns: int) -> None:
        self._samples = samples
        self._now_ns = now_ns

    def collect(self) -> Iterator[Metric]:
        build = GaugeMetricFamily(f"{PREFIX}_build_info", "Version of the proxy", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        families: dict[Field, Metric] = {}
        for sample in self._samples:
            family = families.get(sample.field)
            if family is None:
                family = families[sample.field] = _family(sample)
            _add(family, sample, self._now_ns)
        yield from families.values()


def _family(sample: Sample) -> Metric:
    field, labels = sample.field, list(sample.labels)
    name, text = family_name(field), f"{field.help} ({field.metric})" if field.metric else field.help
    match field.kind:
        case Kind.COUNTER:
            return CounterMetricFamily(name, text, labels=labels)
        case Kind.GAUGE:
            return GaugeMetricFamily(name, text, labels=labels)
        case Kind.HISTOGRAM:
            return HistogramMetricFamily(name, text, labels=labels)


def _add(family: Metric, sample: Sample, now_ns: int) -> None:
    labels, value = list(sample.labels.values()), sample.value
    if isinstance(family, HistogramMetricFamily) and isinstance(value, Histogram):
        family.add_metric(labels, buckets=list(_buckets(value)), sum_value=value.sum * MICRO)
    elif isinstance(family, CounterMetricFamily | GaugeMetricFamily) and not isinstance(value, Histogram):
        if sample.field.name in _SHOWN_AS_AGE:
            if not value:
                return  # no sign of life yet
            value = max(0, now_ns - value) * 1e-9
        family.add_metric(labels, value)
    else:
        raise TypeError(f"{sample.field.name} is a {sample.field.kind}, its value a {type(value).__name__}")


def _buckets(histogram: Histogram) -> Iterator[tuple[str, float]]:
    """Cumulative counts. Taken from the buckets alone: `count` is stored apart and may be one turn ahead."""
    seen, at = 0, 0
    for last, bound in BOUNDARIES:
        seen += sum(histogram.buckets[at : last + 1])
        at = last + 1
        yield f"{bound:.6g}", seen
    yield "+Inf", seen + sum(histogram.buckets[at:])


def render(samples: Iterable[Sample], now_ns: int, accept: str = "") -> tuple[bytes, str]:
    """The page and its content type, in the format the scraper prefers. `now_ns`: the monotonic clock."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Samples(samples, now_ns))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type
