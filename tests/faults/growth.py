"""Whether a series of measurements grows, and how sure that is."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

_BLOCKS = 10
_STUDENT_T = 2.306  # 97.5 % quantile for the 8 degrees of freedom that a line through ten blocks leaves


@dataclass(frozen=True, slots=True)
class Growth:
    """A slope per hour; with 95 % certainty it is within `margin` of `an_hour`."""

    an_hour: float
    margin: float

    def __str__(self) -> str:
        return f"{self.an_hour:+.1f} ± {self.margin:.1f} an hour"


def growth(seconds: Sequence[float], values: Sequence[float]) -> Growth:
    """Fit a line through the means of ten blocks of the series.

    Neighbouring samples say much the same, so the error is taken from the blocks: from single samples it would look
    far smaller than it is.
    """
    size = len(values) // _BLOCKS
    x = [statistics.fmean(seconds[n * size : (n + 1) * size]) / 3600 for n in range(_BLOCKS)]
    y = [statistics.fmean(values[n * size : (n + 1) * size]) for n in range(_BLOCKS)]
    slope, intercept = statistics.linear_regression(x, y)
    left = sum((b - slope * a - intercept) ** 2 for a, b in zip(x, y, strict=True))
    spread = sum((a - statistics.fmean(x)) ** 2 for a in x)
    return Growth(slope, _STUDENT_T * math.sqrt(left / (_BLOCKS - 2) / spread))
