"""Charts are drawn in proportion, and text never becomes markup."""

import pytest
from bs4 import BeautifulSoup

from conversation.pages import charts
from conversation.pages.charts import Bucket


def buckets(*values: tuple[float | None, ...]) -> list[Bucket]:
    return [Bucket(each, f"part {n}", f"/{n}") for n, each in enumerate(values)]


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 1), (1, 1), (2, 2), (7, 8), (11, 12), (101, 120), (0.37, 0.4), (999, 1000), (1e12, 1e12)]
)
def test_a_scale_ends_at_a_round_number(highest: float, top: float) -> None:
    assert charts.top_of(buckets((highest,)), stacked=False) == pytest.approx(top)


def test_a_stack_is_as_high_as_its_sum() -> None:
    assert charts.top_of(buckets((3, 4), (1, None)), stacked=True) == 8
    drawn = BeautifulSoup(charts.bars(buckets((3, 1), (0, None), (0, 2)), ["all", "failed"]), "html.parser")
    bars = [(bar["class"], float(str(bar["y"])), float(str(bar["height"]))) for bar in drawn.select("g rect")]
    assert bars == [(["all"], 25, 75), (["failed"], 0, 25), (["failed"], 50, 50)]
    assert len(drawn.select("a .place")) == 3


def test_a_line_is_interrupted_where_nothing_is_known() -> None:
    drawn = BeautifulSoup(charts.lines(buckets((1,), (2,), (None,), (4,)), ["p50"]), "html.parser")
    (line,) = drawn.select("path.line")
    assert line["d"] == "M5 75h0L15 50M35 0h0"


def test_no_text_becomes_a_part_of_the_drawing() -> None:
    text = "\"'><script>alert(1)</script>"
    drawn = BeautifulSoup(charts.bars([Bucket((1,), text, f"/?q={text}")], ["all"]), "html.parser")
    assert drawn.select("script") == []
    (link,) = drawn.select("a")
    assert (link["href"], link.get_text()) == (f"/?q={text}", text)


@pytest.mark.parametrize(("value", "highest", "width"), [(1, 4, "25"), (0, 0, "0"), (3, 3, "100")])
def test_a_share_is_drawn_in_proportion(value: float, highest: float, width: str) -> None:
    (bar,) = BeautifulSoup(charts.share_bar(value, highest), "html.parser").select("rect")
    assert bar["width"] == width
