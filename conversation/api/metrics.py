"""`/metrics`: the ledger and the spool in the format of Prometheus; each worker returns the sums of all.

It isn't JSON, so /openapi.json doesn't describe it.
"""

from collections.abc import Iterator

from flask import Blueprint, Response, current_app
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from conversation import access
from conversation.api import caller
from logging_store.metrics import ledger
from logging_store.store import Store

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
@access.requires("admin", service_wide=True)
def metrics() -> Response:
    registry = CollectorRegistry()
    registry.register(_Turnlog(caller.repository().ledger, caller.repository().store))
    return current_app.response_class(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


class _Turnlog(Collector):
    def __init__(self, counts: ledger.Ledger, store: Store) -> None:
        self._totals = counts.totals()
        self._redactions = counts.redactions
        self._backlog = store.backlog()

    def collect(self) -> Iterator[Metric]:
        yield from self._records()
        for name, help_text in (
            ("write_seconds", "Time from receiving the records of a call to their receipts"),
            ("store_seconds", "Time of store calls that wrote a group"),
            ("group_records", "Records written in one call of the store"),
        ):
            cumulated, total = ledger.buckets(self._totals, name)
            yield HistogramMetricFamily(f"turnlog_{name}", help_text, buckets=cumulated, sum_value=total)
        for name, help_text in (
            ("limited", "Calls answered with 429: a rate or a quota was used up"),
            ("uncounted", "Calls that were not counted, because the limits' store was unavailable"),
        ):
            yield CounterMetricFamily(f"turnlog_calls_{name}", help_text, value=self._totals[name])
        yield from self._redacted()
        yield from self._spool()

    def _records(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "turnlog_records_received", "Records received: the sum of all outcomes and those in flight",
            value=self._totals["received"],
        )  # fmt: skip
        outcomes = CounterMetricFamily(
            "turnlog_records", "Records by outcome; failed ones were not acknowledged",
            labels=["outcome"],
        )  # fmt: skip
        for outcome in ledger.OUTCOMES:
            outcomes.add_metric([outcome], self._totals[outcome])
        yield outcomes
        yield GaugeMetricFamily(
            "turnlog_records_in_flight", "Records without an outcome yet", value=self._totals["in_flight"]
        )
        delivered = CounterMetricFamily(
            "turnlog_spool_delivered", "Spooled records by the outcome of their delivery", labels=["outcome"]
        )
        for outcome in ledger.DELIVERED:
            delivered.add_metric([outcome], self._totals[f"delivered_{outcome}"])
        yield delivered

    def _redacted(self) -> Iterator[Metric]:
        if not self._redactions:
            return
        for metric, count, help_text in (
            ("redactions", "redacted", "Redactions in texts before they were stored, by kind"),
            ("redaction_failures", "not_redacted", "Texts that could not be searched for a kind"),
        ):
            counter = CounterMetricFamily(f"turnlog_{metric}", help_text, labels=["kind"])
            for name in self._redactions:
                counter.add_metric([name], self._totals[f"{count}_{name}"])
            yield counter

    def _spool(self) -> Iterator[Metric]:
        backlog = self._backlog
        for name, help_text, value in (
            ("spool_records", "Records in this machine's spool", backlog.records),
            ("spool_bytes", "Bytes in this machine's spool", backlog.bytes),
            ("spool_oldest_seconds", "Age of the oldest spooled record", backlog.oldest_s),
            ("spool_unreadable_files", "Spool files that can't be read and need a person", backlog.unreadable_files),
            (
                "spool_other_records",
                "Records and dead letters on this machine that were acknowledged for other databases",
                backlog.others,
            ),
            ("open_breakers", "Workers that consider the store unavailable, and spool", self._totals["open_breakers"]),
            (
                "dead_letters",
                "Records that the store refused after they were acknowledged",
                _known(backlog.dead_letters),
            ),
        ):
            yield GaugeMetricFamily(f"turnlog_{name}", help_text, value=value)


def _known(number: int | None) -> float:
    return float("nan") if number is None else number
