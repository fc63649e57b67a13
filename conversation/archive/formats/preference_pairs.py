"""Pairs of a better and a worse answer to the same question, for preference tuning, one pair per line.

`write` has the columns of Hugging Face's trl, `{"prompt", "chosen", "rejected", "tools"}`, each a list of messages;
`write_openai` OpenAI's, `{"input": {"messages", "tools"}, "preferred_output", "non_preferred_output"}`. The answers are
alternatives of each other, and feedback says which one is better.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from pydantic_core import to_json

from conversation.archive.branches import SessionTree
from conversation.archive.exchanges import ExchangeReader
from conversation.archive.exporting import ExportItem
from conversation.archive.formats import chat_messages
from conversation.archive.ratings import FeedbackFilter
from conversation.turns.message import Item
from conversation.turns.roles import ASSISTANT, TOOL, USER
from logging_store import operations as ops

_NAME = "rating"  # of the feedback that counts if none is named


@dataclass(slots=True)
class _Answer:
    """One of several answers. `rank`: as feedback has it, None without any; `current`: on the current branch.

    `is_chosen`: somebody made it the current one.
    """

    prompt: list[Item]
    answer: list[Item]
    tools: list[Item]
    rank: bool | float | None
    current: bool
    is_chosen: bool


def write(exported: Iterator[ExportItem], rated: FeedbackFilter | None = None) -> Iterator[bytes]:
    """Yield the lines in trl's form; the arguments of calls are objects there."""
    for better, worse in _pairs(exported, rated):
        columns = {"prompt": better.prompt, "chosen": better.answer, "rejected": worse.answer}
        line: Item = {
            name: [chat_messages.with_parsed_arguments(message) for message in messages]
            for name, messages in columns.items()
        }
        yield to_json(line | ({"tools": better.tools} if better.tools else {})) + b"\n"


def write_openai(exported: Iterator[ExportItem], rated: FeedbackFilter | None = None) -> Iterator[bytes]:
    """Yield the lines in OpenAI's form."""
    for better, worse in _pairs(exported, rated):
        sent: Item = {"messages": better.prompt} | ({"tools": better.tools} if better.tools else {})
        yield (
            to_json({"input": sent, "preferred_output": better.answer, "non_preferred_output": worse.answer}) + b"\n"
        )


def _pairs(exported: Iterator[ExportItem], rated: FeedbackFilter | None) -> Iterator[tuple[_Answer, _Answer]]:
    for each in exported:
        if each.session is None:
            continue
        with SessionTree(each.interactions) as tree:
            groups = list(tree.alternatives())
            if not groups:
                continue
            ranks = _ranks(each.feedback, rated)
            if not ranks and not any(tree.row(number)["chosen_at"] for group in groups for number in group):
                continue  # nothing can be better
            current = set(tree.current())
            for group in groups:
                answers: defaultdict[bytes, list[_Answer]] = defaultdict(list)
                for number in group:
                    if found := _answer(tree, number, current, ranks, each.session["metadata"]):
                        answers[to_json(found.prompt)].append(found)
                for same_question in answers.values():
                    yield from (
                        (better, worse)
                        for better in same_question
                        for worse in same_question
                        if better.answer != worse.answer and _is_better(better, worse)
                    )


def _ranks(feedback: Iterator[ops.Feedback], rated: FeedbackFilter | None) -> dict[str, bool | float]:
    """Return by interaction how it was rated: with a value asked for, whether it has that value."""
    name = rated.name if rated else _NAME
    ranks: dict[str, bool | float] = {}
    for row in feedback:
        if row["name"] != name or row["interaction_id"] is None:
            continue
        value = rated.matches(row) if rated else row["value"]
        if isinstance(value, bool | int | float):
            known = ranks.get(row["interaction_id"])
            # of several authors the one who found it worse counts
            ranks[row["interaction_id"]] = value if known is None else min(known, value)
    return ranks


def _answer(
    tree: SessionTree, number: int, current: set[int], ranks: dict[str, bool | float], of_session: Item
) -> _Answer | None:
    """Return an answer with all that comes before it; None if it isn't one, as a failed one, or can't be expressed."""
    row = tree.row(number)
    before: list[Item] = []
    reader = ExchangeReader(chat_messages.to_openai)
    # the rows after it are only read as far as its turn goes, for the results of tools
    rows = tree.rows(chain(tree.path(number), tree.onward(number)))
    for turn in reader.read(rows):
        del before[turn.start :]
        ids = [each["interaction_id"] for each in turn.rows]
        if row["interaction_id"] not in ids:
            before += turn.items
            continue
        place = ids.index(row["interaction_id"])
        if not turn.is_answered or (place, True) not in turn.origins:
            return None
        start = turn.origins.index((place, True))
        prompt, answer = [*before, *turn.items[:start]], turn.items[start:]
        if not prompt or prompt[-1]["role"] not in {USER, TOOL}:
            return None
        if any(item["role"] not in {ASSISTANT, TOOL} for item in answer):
            return None
        found = [ranks[each] for each in ids[place:] if each in ranks]
        metadata = [each["metadata"] for each in reversed(turn.rows)]
        return _Answer(
            prompt,
            answer,
            chat_messages.tools_of(*metadata, of_session),
            min(found) if found else None,
            number in current,
            bool(row["chosen_at"]),
        )
    return None


def _is_better(one: _Answer, other: _Answer) -> bool:
    """Return whether feedback, or an explicit choice, prefers one answer to another.

    What somebody liked is better than what nobody rated, and that is better than what somebody disliked; of answers
    that nobody rated, only the current one is.
    """
    match one.rank, other.rank:
        case None, None:
            return one.current and one.is_chosen
        case None, bool(liked):
            return one.current and not liked
        case bool(liked), None:
            return liked
        case (bool(), bool()) | (int() | float(), int() | float()) if isinstance(one.rank, bool) == isinstance(
            other.rank, bool
        ):
            return one.rank > other.rank
    return False
