"""`/metrics`: the ledger and the spool in the format of Prometheus, the same whichever worker answers.

Not JSON, so not part of the contract in /openapi.json.
"""

from collections.abc import Iterator

from flask import Blueprint, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from conversation import access
from conversation.api import http
from logging_store.metrics import ledger
from logging_store.store import Store

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@access.requires("admin", service_wide=True)
def metrics() -> Response:
    registry = CollectorRegistry()
    registry.register(_Turnlog(http.repository().ledger, http.repository().store))
    return current_app.response_class(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Turnlog(Collector):
    def __init__(self, counts: ledger.Ledger, store: Store) -> None:
        self._totals = counts.totals()
        self._redactions = counts.redactions
        self._backlog = store.backlog()

    def collect(self) -> Iterator[Metric]:
        yield from self._records()
        for name, what in (
            ("write_seconds", "From the receipt of records to their receipts, for each call"),
            ("store_seconds", "Calls of the store that wrote a group"),
            ("group_records", "Records written in one call of the store"),
        ):
            cumulated, total = ledger.buckets(self._totals, name)
            yield HistogramMetricFamily(f"turnlog_{name}", what, buckets=cumulated, sum_value=total)
        for name, what in (
            ("limited", "Calls answered with 429: a rate or a quota was used up"),
            ("uncounted", "Counts of calls that are missing, since the store of the limits was away"),
        ):
            yield CounterMetricFamily(f"turnlog_calls_{name}", what, value=self._totals[name])
        yield from self._redacted()
        yield from self._spool()

    def _records(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "turnlog_records_received", "Records received: the sum of all outcomes and those in flight",
            value=self._totals["received"],
        )  # fmt: skip
        outcomes = CounterMetricFamily(
            "turnlog_records", "What became of the records; of those that failed nothing was acknowledged",
            labels=["outcome"],
        )  # fmt: skip
        for outcome in ledger.OUTCOMES:
            outcomes.add_metric([outcome], self._totals[outcome])
        yield outcomes
        yield GaugeMetricFamily(
            "turnlog_records_in_flight", "Records without an outcome yet", value=self._totals["in_flight"]
        )
        delivered = CounterMetricFamily(
            "turnlog_spool_delivered", "What became of the records that were spooled", labels=["outcome"]
        )
        for outcome in ledger.DELIVERED:
            delivered.add_metric([outcome], self._totals[f"delivered_{outcome}"])
        yield delivered

    def _redacted(self) -> Iterator[Metric]:
        if not self._redactions:
            return
        for metric, count, what in (
            ("redactions", "redacted", "What was replaced in texts before they were stored, by what it was"),
            ("redaction_failures", "not_redacted", "Texts that could not be gone through, by what for"),
        ):
            counter = CounterMetricFamily(f"turnlog_{metric}", what, labels=["kind"])
            for name in self._redactions:
                counter.add_metric([name], self._totals[f"{count}_{name}"])
            yield counter

    def _spool(self) -> Iterator[Metric]:
        backlog = self._backlog
        for name, what, value in (
            ("spool_records", "Records that wait on this machine's disk", backlog.records),
            ("spool_bytes", "Their size", backlog.bytes),
            ("spool_oldest_seconds", "How long the oldest has waited", backlog.oldest_s),
            ("spool_unreadable_files", "Files of the spool that a person has to look at", backlog.unreadable_files),
            ("open_breakers", "Workers that think the store is away, and spool", self._totals["open_breakers"]),
            (
                "dead_letters",
                "Records that the store refused after they were acknowledged",
                _known(backlog.dead_letters),
            ),
        ):
            yield GaugeMetricFamily(f"turnlog_{name}", what, value=value)


def _known(number: int | None) -> float:
    return float("nan") if number is None else number
