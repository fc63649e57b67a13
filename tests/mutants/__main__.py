"""Plants bugs, and reports those that no test noticed."""

import argparse
import random
import sys
import time
from dataclasses import dataclass, field

from tests.mutants.mutations import Mutation, mutations
from tests.mutants.planted import PLANTED
from tests.mutants.workshop import ROOT, Workshop, opened

SPOOL_TESTS = [
    *(f"tests/spool/test_{name}.py" for name in ("fsync", "adoption", "spool", "api", "reads", "any_order")),
    *("tests/store/test_store_conformance.py", "-k", "spool"),
]
GROUP_TESTS = ["tests/store/test_group_commit.py", "tests/store/test_store_conformance.py", "-k", "group"]
REPOSITORY_TESTS = [
    "tests/store/test_repository.py",
    *(f"tests/api/test_{name}_api.py" for name in ("sessions", "interactions", "batches")),
    *("-k", "not supabase"),
]
TESTS_OF = {
    **{str(path.relative_to(ROOT)): SPOOL_TESTS for path in sorted((ROOT / "logging_store/spool").glob("*.py"))},
    "logging_store/group_commit.py": GROUP_TESTS,
    "logging_store/log_reader.py": REPOSITORY_TESTS,
    "logging_store/repository.py": REPOSITORY_TESTS,
}
RUN_S = 240


@dataclass
class Tally:
    noticed: int = 0
    survivors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        met = self.noticed + len(self.survivors)
        return f"{self.noticed} of {met} noticed" + (f" ({self.noticed / met:.0%})" if met else "")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program for the terminal


def plant(workshop: Workshop) -> Tally:
    """Try each planted bug against its test."""
    tally = Tally()
    for bug in PLANTED:
        source = (ROOT / bug.file).read_text()
        if source.count(bug.right) != 1:
            raise SystemExit(f"{bug.name}: its place isn't to be found once in {bug.file}")
        began = time.monotonic()
        with workshop.changed(bug.file, source.replace(bug.right, bug.wrong).encode()):
            noticed = workshop.complaint([bug.test], RUN_S) is not None
        say(f"{'noticed ' if noticed else 'SURVIVED'} {time.monotonic() - began:5.1f} s  {bug.name}")
        if noticed:
            tally.noticed += 1
        else:
            tally.survivors.append(bug.name)
    return tally


def mutate(workshop: Workshop, until: float, seed: int, only: str) -> Tally:
    """Change places in a random order until the time is over."""
    places: list[tuple[str, Mutation]] = [
        (file, mutation) for file in TESTS_OF if only in file for mutation in mutations((ROOT / file).read_bytes())
    ]
    random.Random(seed).shuffle(places)
    tally = Tally()
    for file, mutation in places:
        if time.monotonic() > until:
            break
        with workshop.changed(file, mutation.apply((ROOT / file).read_bytes())):
            noticed = workshop.complaint(TESTS_OF[file], RUN_S) is not None
        what = f"{file}:{mutation.line}: {' '.join(mutation.before.split())} -> {' '.join(mutation.after.split())}"
        say(f"{'noticed ' if noticed else 'SURVIVED'} {what}")
        if noticed:
            tally.noticed += 1
        else:
            tally.survivors.append(what)
    say(f"{len(places)} places could be changed")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Test the tests.")
    parser.add_argument("--minutes", type=float, default=13, help="when to stop changing places at random")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--only", default="", help="change only files with this in their path")
    parser.add_argument("--no-planted", action="store_true")
    options = parser.parse_args()
    until = time.monotonic() + 60 * options.minutes
    with opened() as workshop:
        runs = [tests for file, tests in TESTS_OF.items() if options.only in file]
        if not options.no_planted:
            runs.append(sorted({bug.test for bug in PLANTED}))
        for tests in [tests for n, tests in enumerate(runs) if tests not in runs[:n]]:
            if complaint := workshop.complaint(tests, RUN_S):
                sys.exit(f"{complaint}\nThe tests fail without any bug planted.")
        say("the tests pass without any bug planted")
        planted = Tally() if options.no_planted else plant(workshop)
        say(f"planted bugs: {planted}")
        sample = mutate(workshop, until, options.seed, options.only)
    say(f"random changes: {sample}, seed {options.seed}")
    if planted.survivors:
        sys.exit(f"survived: {'; '.join(planted.survivors)}")


if __name__ == "__main__":
    main()
