"""How much of each fault: one round in CI, many by `make soak`. Each round has a service and a database of its own.

FAULT_SIZES and FAULT_SEED are set by `python -m tests.faults`.
"""

import os
import random

import pytest

SOAK = os.environ.get("FAULT_SIZES") == "soak"
SEED = os.environ.get("FAULT_SEED") or str(random.randrange(2**32))


def rounds(*, soak: int, limit_s: int = 180) -> pytest.MarkDecorator:
    """Return a mark that runs a test once in CI and `soak` times in the soak, each within `limit_s`."""
    return pytest.mark.parametrize(
        "round_number", [pytest.param(n, marks=pytest.mark.timeout(limit_s)) for n in range(soak if SOAK else 1)]
    )
