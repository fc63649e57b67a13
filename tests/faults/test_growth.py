"""The measure of growth finds a leak, and takes no noise for one."""

import random

import pytest

from tests.faults.growth import growth

SECONDS = [float(second) for second in range(500)]


def test_a_steady_leak_is_found_with_its_size() -> None:
    found = growth(SECONDS, [100 + second * 60 / 3600 for second in SECONDS])
    assert found.an_hour == pytest.approx(60)
    assert found.margin == pytest.approx(0, abs=1e-6)


def test_a_leak_under_noise_lies_within_the_margin() -> None:
    dice = random.Random(1)
    found = growth(SECONDS, [100 + second * 60 / 3600 + dice.gauss(0, 1) for second in SECONDS])
    assert 0 < found.margin < 10
    assert abs(found.an_hour - 60) < found.margin


def test_a_single_step_is_no_certain_leak() -> None:
    found = growth(SECONDS, [100.0 + (second > 400) for second in SECONDS])
    assert found.an_hour - found.margin < 5
