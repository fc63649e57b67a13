"""Runs the faults in one of their sizes.

    python -m tests.faults [--sizes ci|soak] [--only NAME] [--seed N] [--minutes N]

NAME is what pytest's -k takes: "killed_workers", "hangs", "soak". The soak size takes hours; each fault is bounded
by itself.
"""

import argparse
import os
import random
import sys
from pathlib import Path

import pytest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description="Kill, stop and hang things.")
    parser.add_argument("--sizes", choices=["ci", "soak"], default="ci")
    parser.add_argument("--only", metavar="NAME", help="tests whose name holds this, as pytest's -k")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of all choices")
    parser.add_argument("--minutes", type=float, default=8, help="of the soak for leaks")
    options = parser.parse_args()
    os.environ |= {
        "FAULT_SIZES": options.sizes,
        "FAULT_SEED": str(options.seed),
        "FAULT_MINUTES": str(options.minutes),
    }
    print(f"FAULT_SEED={options.seed}")  # noqa: T201 - a run is repeated with it
    arguments = ["--durations=0", "--durations-min=1", str(Path(__file__).parent)]
    return pytest.main([*arguments, "-k", options.only] if options.only else arguments)


if __name__ == "__main__":
    sys.exit(main())
