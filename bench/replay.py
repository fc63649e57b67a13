"""Replays a file of dialogues against a running Turnlog, twice, and compares what comes back with what was sent.

    python -m bench.replay FILE URL [--clients 16] [--seed N] [--key KEY]

Many clients call at once; the dialogues come in shuffled order, and each one's create and logs race each other. The
second pass, in another order, may only meet duplicates. Then everything is read back, page by page. The exit status
is 1 if anything is not exactly right. The log must not hold these dialogues yet.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from bench import dialogues, readback
from bench.caller import Answer, Caller, GaveUp
from bench.dialogues import Dialogue, Turn

_SHOWN = 10  # wrong things of a pass that are printed one by one; there may be thousands
_TOGETHER = 4  # dialogues whose calls are shuffled into each other, few enough that each one's own calls race

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Call:
    """One request: the create of a dialogue's session (`turn` is None) or the log of one of its turns."""

    dialogue: Dialogue
    turn: Turn | None

    def __str__(self) -> str:
        return f"{self.dialogue.name!r}, {f'turn {self.turn.number}' if self.turn else 'create'}"


@dataclass
class Pass:
    """What one pass met. `sessions` and `interactions` count receipts (or, read back, what the rows are)."""

    name: str
    calls: int = 0
    retried: int = 0
    seconds: float = 0
    sessions: Counter[str] = field(default_factory=Counter)
    interactions: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    console = Console()
    seed = random.randrange(2**32) if options.seed is None else options.seed
    columns = TextColumn("{task.description:>9}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    try:
        everything = dialogues.read(options.file)
        with (
            Caller(options.url, key=options.key, clients=options.clients) as caller,
            Progress(*columns, console=console) as progress,
        ):
            passes = replay(everything, caller, clients=options.clients, seed=seed, progress=progress)
    except (OSError, ValueError, GaveUp) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    console.print(table(passes))
    for each in passes:
        for sentence in each.wrong[:_SHOWN]:
            console.print(f"{each.name}: {sentence}", style="red", markup=False, soft_wrap=True)
    wrong = sum(len(each.wrong) for each in passes)
    turns = sum(len(dialogue.turns) for dialogue in everything)
    verdict = f"{wrong} wrong" if wrong else "exactly right"
    console.print(f"{len(everything)} dialogues, {turns} interactions, seed {seed}: {verdict}", highlight=False)
    return 1 if wrong else 0


def replay(
    everything: Sequence[Dialogue], caller: Caller, *, clients: int, seed: int, progress: Progress
) -> list[Pass]:
    """Log everything twice and read it back; `seed` decides the orders. Raises `GaveUp` if the service is away."""
    chance = random.Random(seed)
    before = readback.session_ids(caller)
    return [
        _log("first", _shuffled(everything, chance), caller, clients=clients, progress=progress),
        _log("second", _shuffled(everything, chance), caller, clients=clients, progress=progress),
        _read_back(everything, caller, before, clients=clients, progress=progress),
    ]


def table(passes: Sequence[Pass]) -> Table:
    drawn = Table(
        "pass",
        "calls",
        "retried",
        "s",
        "calls/s",
        "sessions",
        "interactions",
        "wrong",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for each in passes:
        drawn.add_row(
            each.name, str(each.calls), str(each.retried), f"{each.seconds:.1f}", f"{each.calls / each.seconds:.0f}",
            _counts(each.sessions), _counts(each.interactions), str(len(each.wrong)),
        )  # fmt: skip
    return drawn


def _log(name: str, calls: Sequence[Call], caller: Caller, *, clients: int, progress: Progress) -> Pass:
    this = Pass(name)
    task = progress.add_task(name, total=len(calls))
    begun = time.monotonic()
    for call, answer in _at_once(lambda call: _make(caller, call), calls, clients):
        receipt = str(answer.body.get("receipt", answer.status))
        (this.interactions if call.turn else this.sessions)[receipt] += 1
        this.calls += 1
        this.retried += answer.attempts > 1
        if receipt not in _expected_receipts(name, call, answer) or answer.status != (
            201 if receipt == "created" else 200
        ):
            this.wrong.append(f"{call}: {answer.status} {answer.body}")
        progress.advance(task)
    this.seconds = time.monotonic() - begun
    return this


def _expected_receipts(name: str, call: Call, answer: Answer) -> set[str]:
    """Return the receipts that are right for a call: a session born from a log is filled by its create."""
    if name == "second":
        return {"duplicate"}
    right = {"created"} if call.turn else {"created", "filled"}
    return right if answer.attempts == 1 else right | {"duplicate"}  # the attempt before may have been stored


def _read_back(
    everything: Sequence[Dialogue], caller: Caller, before: set[str], *, clients: int, progress: Progress
) -> Pass:
    this = Pass("read back")
    task = progress.add_task(this.name, total=len(everything))
    begun = time.monotonic()
    for found in _at_once(lambda dialogue: readback.transcript(caller, dialogue), everything, clients):
        this.calls += found.calls
        this.interactions += found.kinds
        this.wrong += found.wrong
        progress.advance(task)
    listed = readback.sessions(caller, everything, before)
    this.calls += listed.calls
    this.sessions += listed.kinds
    this.wrong += listed.wrong
    this.seconds = time.monotonic() - begun
    return this


def _shuffled(everything: Sequence[Dialogue], chance: random.Random) -> list[Call]:
    order = chance.sample(everything, k=len(everything))
    calls: list[Call] = []
    for first in range(0, len(order), _TOGETHER):
        some = [
            Call(dialogue, turn) for dialogue in order[first : first + _TOGETHER] for turn in (None, *dialogue.turns)
        ]
        chance.shuffle(some)
        calls += some
    return calls


def _make(caller: Caller, call: Call) -> tuple[Call, Answer]:
    name, turn = call.dialogue.name, call.turn
    if turn is None:
        return call, caller.post("/v1/sessions", {"session_id": name, "tags": list(call.dialogue.services)})
    facts = {"session_id": name, "interaction_id": turn.name, "turn": turn.number}
    texts = {"prompt": turn.prompt, "response": turn.response}
    return call, caller.post("/v1/interactions", facts | {k: v for k, v in texts.items() if v is not None})


def _at_once(do: Callable[[_Item], _Result], items: Sequence[_Item], clients: int) -> Iterator[_Result]:
    """Do something with each item, `clients` at a time, beginning in their order."""
    with ThreadPoolExecutor(clients, thread_name_prefix="replay") as threads:
        try:
            yield from threads.map(do, items)
        finally:
            threads.shutdown(wait=True, cancel_futures=True)


def _counts(counted: Counter[str]) -> str:
    return "\n".join(f"{count} {outcome}" for outcome, count in sorted(counted.items())) or "-"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description="Replay dialogues twice and compare.")
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines of {dialogue_id, services, turns}")
    parser.add_argument("url", metavar="URL", help="where Turnlog runs, as in http://127.0.0.1:8000")
    parser.add_argument("--clients", type=int, default=16, help="calls at once")
    parser.add_argument("--seed", type=int, help="of the shuffled orders; random if not given")
    parser.add_argument("--key", default=os.environ.get("TURNLOG_API_KEY"), help="default: TURNLOG_API_KEY")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
