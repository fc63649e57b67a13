"""Plants bugs, changes places at random, and reports what no test noticed."""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, zip_longest
from pathlib import Path

from tests.mutants import coverage_map
from tests.mutants.coverage_map import CoverageMap
from tests.mutants.mutations import Mutation, mutations
from tests.mutants.planted import PLANTED
from tests.mutants.runner import NO_END
from tests.mutants.sql_mutations import sql_mutations
from tests.mutants.sql_tests import PROPERTIES, test_files_of
from tests.mutants.workshop import ROOT, Workshop, opened

#: What is changed at random: what decides about access, what becomes of messages, and what keeps a record.
AREAS = {
    "access": ["conversation/access/*.py"],
    "turns": ["conversation/turns/*.py"],
    "spool": ["logging_store/spool/*.py"],
    "group commit and reader": [f"logging_store/{name}.py" for name in ("group_commit", "log_reader", "repository")],
    "write's SQL": ["supabase/schemas/write/*.sql", "supabase/schemas/rules/*.sql", "supabase/schemas/erase/*.sql"],
}
RUN_S = 120


@dataclass(frozen=True, slots=True)
class Place:
    """A change of one file."""

    area: str
    file: str
    mutation: Mutation

    def __str__(self) -> str:
        before, after = (" ".join(text.split()) for text in (self.mutation.before, self.mutation.after))
        return f"{self.file}:{self.mutation.line}: {before} -> {after}"

    def tests(self, traces: CoverageMap) -> list[list[str]]:
        """Return the tests to run one part after the other."""
        if self.file.endswith(".sql"):
            return [*traces.tests_in(*test_files_of(self.file)), PROPERTIES]
        source = (ROOT / self.file).read_text()
        first = self.mutation.line
        return traces.tests_of(self.file, source, first, first + self.mutation.before.count("\n"))


@dataclass
class Tally:
    noticed: int = 0
    survivors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        met = self.noticed + len(self.survivors)
        return f"{self.noticed} of {met} noticed" + (f" ({self.noticed / met:.0%})" if met else "")


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a program for the terminal


def plant(workshop: Workshop, only: str) -> Tally:
    """Try each planted bug against its test, once the tests pass without it."""
    bugs = [bug for bug in PLANTED if only in bug.file]
    if complaint := workshop.complaint(sorted({bug.test for bug in bugs}), RUN_S * 4):
        sys.exit(f"{complaint.output}\nThe tests fail without any bug planted.")
    say("the tests pass without any bug planted")
    tally = Tally()
    for bug in bugs:
        source = (ROOT / bug.file).read_text()
        if source.count(bug.right) != 1:
            raise SystemExit(f"{bug.name}: its place isn't to be found once in {bug.file}")
        began = time.monotonic()
        with workshop.changed(bug.file, source.replace(bug.right, bug.wrong).encode()):
            noticed = workshop.complaint([bug.test], RUN_S, changed=bug.file) is not None
        say(f"{'noticed ' if noticed else 'SURVIVED'} {time.monotonic() - began:5.1f} s  {bug.name}")
        if noticed:
            tally.noticed += 1
        else:
            tally.survivors.append(bug.name)
    return tally


def places(seed: int, only: str) -> list[Place]:
    """Return all places in a random order that takes one from each area in turn."""
    by_area = []
    for area, patterns in AREAS.items():
        found = [
            Place(area, file, mutation)
            for path in sorted(chain.from_iterable(ROOT.glob(pattern) for pattern in patterns))
            if only in (file := str(path.relative_to(ROOT)))
            for mutation in _mutations_of(path)
        ]
        random.Random(f"{seed} {area}").shuffle(found)
        by_area.append(found)
        say(f"{len(found)} places in {area}")
    return [place for place in chain.from_iterable(zip_longest(*by_area)) if place]


def _mutations_of(path: Path) -> list[Mutation]:
    return (sql_mutations if path.suffix == ".sql" else mutations)(path.read_bytes())


def mutate(workshop: Workshop, traces: CoverageMap, wanted: Iterator[Place], until: float, most: int) -> Tally:
    """Change places until there were so many, or the time is over; then make sure that the tests pass unchanged."""
    tallies = {area: Tally() for area in AREAS}
    whole, noticing = Tally(), set[str]()
    for place in wanted:
        if time.monotonic() > until or whole.noticed + len(whole.survivors) == most:
            break
        changed = place.mutation.apply((ROOT / place.file).read_bytes())
        if place.file.endswith(".sql") and not workshop.applies(changed.decode()):
            continue
        began = time.monotonic()
        is_noticed, by = _try(workshop, place, changed, traces)
        say(f"{'noticed ' if is_noticed else 'SURVIVED'} {time.monotonic() - began:5.1f} s  {place} [{by}]")
        for tally in (tallies[place.area], whole):
            if is_noticed:
                tally.noticed += 1
            else:
                tally.survivors.append(str(place))
        if is_noticed and "::" in by:
            noticing.add(by)
    for area, tally in tallies.items():
        say(f"{area}: {tally}")
    for test in sorted(noticing):  # each alone, as a change may have made another one fail earlier
        if workshop.complaint([test], RUN_S):
            say(f"FAILS WITHOUT ANY CHANGE, so what it noticed is in doubt: {test}")
    return whole


def _try(workshop: Workshop, place: Place, changed: bytes, traces: CoverageMap) -> tuple[bool, str]:
    """Return whether tests notice a changed file, and which one did, or how many didn't."""
    parts = place.tests(traces)
    with workshop.changed(place.file, changed):
        for tests in filter(None, parts):
            if complaint := workshop.complaint(tests, RUN_S, changed=place.file):
                if complaint.status == NO_END:  # slow, or held up: nobody can tell
                    return False, f"no end within {RUN_S} s"
                return True, complaint.test or f"exit status {complaint.status}"
    return False, f"{sum(map(len, parts))} tests"


def _traces(folder: Path | None, files: list[str]) -> CoverageMap:
    if folder or not files:
        return coverage_map.read(folder or Path(), files)
    return coverage_map.of_commit(files)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Test the tests.")
    parser.add_argument("--minutes", type=float, default=120, help="when to stop changing places at random")
    parser.add_argument("--most", type=int, default=200, help="how many places to change")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--skip", type=int, default=0, help="go on with a seed after so many places")
    parser.add_argument("--only", default="", help="change only files with this in their path")
    parser.add_argument("--no-planted", action="store_true")
    parser.add_argument("--traces", type=Path, help="a folder with a coverage map to use instead of the commit's")
    options = parser.parse_args()
    wanted = places(options.seed, options.only)[options.skip :] if options.most else []
    files = sorted({place.file for place in wanted})
    traces = _traces(options.traces, files)
    until = time.monotonic() + 60 * options.minutes
    with opened() as workshop:
        planted = Tally() if options.no_planted else plant(workshop, options.only)
        say(f"planted bugs: {planted}")
        sample = mutate(workshop, traces, iter(wanted), until, options.most)
    say(f"random changes: {sample}, seed {options.seed}")
    if planted.survivors:
        sys.exit(f"survived: {'; '.join(planted.survivors)}")


if __name__ == "__main__":
    main()
