"""deploy/alerts.yml, deploy/grafana.json and the page on operations name the metrics that the service has."""

import json
import re
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from conversation.settings import Settings
from logging_store.store import Store
from tests.http_calls import KEYLESS

_ROOT = Path(__file__).parents[2]
_ALERTS = _ROOT / "deploy" / "alerts.yml"
_BOARD = _ROOT / "deploy" / "grafana.json"
_PAGE = _ROOT / "docs" / "operations.md"


def named_in(path: Path) -> set[str]:
    return set(re.findall(r"\bturnlog_[a-z_]+(?<!_)\b", path.read_text(encoding="utf-8")))


@pytest.fixture
def samples(store: Store) -> set[str]:
    """Return the names of all samples that /metrics has."""
    client = create_app(Settings.from_mapping(KEYLESS | {"TURNLOG_REDACT": "mail"}), store).test_client()
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {sample.name for family in families for sample in family.samples}


@pytest.mark.parametrize("path", [_ALERTS, _BOARD], ids=lambda path: path.name)
def test_alerts_and_board_use_metrics_that_are_there(path: Path, samples: set[str]) -> None:
    assert named_in(path) - samples == set()


def test_the_board_uses_every_metric_and_the_page_explains_each(samples: set[str]) -> None:
    of_histograms = re.compile(r"_(bucket|sum|count)$")
    metrics = {of_histograms.sub("", name) for name in samples}
    board = {of_histograms.sub("", name) for name in named_in(_BOARD)}
    # of files that can't be read a board shows nothing that the alert doesn't say
    assert metrics - board == {"turnlog_spool_unreadable_files"}
    assert metrics - named_in(_PAGE) == set()


def test_each_alert_has_a_severity_a_summary_and_a_line_on_the_page() -> None:
    rules = [rule for group in yaml.safe_load(_ALERTS.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    explained = re.findall(r"^\| `(Turnlog\w+)` \|", _PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rule["alert"] for rule in rules) == sorted(explained)
    assert all(rule["labels"]["severity"] and rule["annotations"]["summary"] for rule in rules)


def test_the_panels_of_the_board_lie_beside_each_other() -> None:
    panels = json.loads(_BOARD.read_text(encoding="utf-8"))["panels"]
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(0 <= x < 24 for x, _ in cells)
