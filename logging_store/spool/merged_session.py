"""A session of which a part is spooled: its branches, and the pages of one of them.

A page of the store's isn't enough here: a spooled interaction may begin another branch anywhere, and make it the
current one.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple, cast

from logging_store import operations as ops
from logging_store.records.json_values import NO_TURN
from logging_store.spool import branches, overlay

_Place = tuple[bool, int, datetime, datetime, str]


class Page(NamedTuple):
    """The ids of a page, and the cursor of the next one."""

    ids: list[str]
    after: ops.TurnCursor | None


class MergedSession:
    """A session's interactions, those of the store and the spooled ones, and a branch of it.

    `options`: which branch is shown. `target`: an interaction that it has to lead through. `pin`: the one of a cursor.
    """

    def __init__(
        self,
        stored: Iterable[ops.Interaction],
        spooled: Mapping[str, list[overlay.Row]],
        options: ops.BranchOptions,
        *,
        target: str | None = None,
        pin: str | None = None,
    ) -> None:
        rows = {row["interaction_id"]: _without_texts(row) for row in stored}
        self.stored_ids = set(rows)
        self._spooled = spooled
        for id_, each in spooled.items():
            rows[id_] = _without_texts(overlay.merge_interaction(each, rows.get(id_)))
        self._rows = overlay.sort_transcript(rows.values())
        nodes = [branches.node_of(row) for row in self._rows]
        tree = branches.Tree(nodes)
        through = pin or options.get("branch")
        branch = tree.branch(through)
        if target in tree.follows and target not in branch:
            branch = tree.branch(through := target)
        self._tree, self._current = tree, tree.branch()
        self._nodes = {node.id: node for node in nodes}
        #: The interaction through which the branch leads; None for the current one.
        self.through = through if through in rows else None
        in_all = options.get("branches") == "all"
        self._pinned = not in_all
        self._shown = [row for row in self._rows if in_all or row["interaction_id"] in branch]

    def page(self, limit: int, index: int) -> Page:
        """Return the page that begins at an index."""
        rows = self._shown[index : index + limit]
        more = len(self._shown) > index + limit
        return Page([row["interaction_id"] for row in rows], self._cursor(rows[-1]) if more else None)

    def index_after(self, cursor: ops.TurnCursor | None) -> int:
        """Return how many interactions come up to a cursor."""
        return sum(_place(row) <= _place_of(cursor) for row in self._shown) if cursor else 0

    def outline(self, query: ops.OutlineOptions, stored: ops.Outline) -> ops.Outline:
        """Return an outline with the figures of the merged branch, given the one of the store."""
        limit, index = query["limit"], 0
        before, target = query.get("before"), query.get("interaction_id")
        if target is not None:
            ids = [row["interaction_id"] for row in self._shown]
            index = ids.index(target) // limit * limit if target in ids else 0
        elif before is not None:
            index = max(sum(_place(row) < _place_of(before) for row in self._shown) - limit, 0)
        else:
            index = self.index_after(query.get("after"))
        return {
            **stored,
            "total": len(self._shown),
            "others": len(self._rows) - len(self._shown),
            "branch": self.through,
            "last": self._shown[-1]["interaction_id"] if self._shown else None,
            "index": index,
            "after": self._cursor(self._shown[index - 1]) if index > 0 else None,
            "context": self._cursor(self._shown[index - 2]) if index > 1 else None,
        }

    def question_of(self, id_: str) -> str | None:
        """Return the interaction that asked what one on a branch answers, if that has no prompt; None if none did."""
        if not self._pinned:
            return None
        met = {id_}
        at: str | None = id_
        while at is not None and (node := self._nodes.get(at)) and not node.asks:
            at = node.instead_of
            if at in met:
                return None
            met.add(at or "")
        return at if at in self._nodes and at != id_ else None

    def with_texts(self, ids: Iterable[str], stored: Mapping[str, ops.Interaction]) -> list[ops.Interaction]:
        """Return interactions as they are shown, with their alternatives. `stored`: those of the store, also questions.

        One that is neither spooled nor among these was erased meanwhile, and is left out.
        """
        rows = []
        for id_ in ids:
            row = self._with_texts(id_, stored)
            if row is not None:
                beside = {
                    "alternatives": self._tree.alternatives(id_, self._current),
                    "question": _question(self._with_texts(self.question_of(id_), stored)),
                }
                rows.append(cast("ops.Interaction", {**row, **beside}))
        return rows

    def _with_texts(self, id_: str | None, stored: Mapping[str, ops.Interaction]) -> ops.Interaction | None:
        if id_ is None or id_ not in self._spooled:
            return stored.get(id_ or "")
        return overlay.merge_interaction(self._spooled[id_], stored.get(id_))

    def _cursor(self, row: ops.Interaction) -> ops.TurnCursor:
        cursor = ops.cursor_of(row)
        return {**cursor, "branch": self._shown[-1]["interaction_id"]} if self._pinned else cursor


def _question(row: ops.Interaction | None) -> ops.Question | None:
    if row is None or row["prompt"] is None or row["erased_at"] is not None:
        return None
    return {
        "interaction_id": row["interaction_id"],
        "key": row["key"],
        "participant": row["participant"],
        "prompt": row["prompt"],
        "asked_at": row["started_at"] or row["created_at"],
    }


def _without_texts(row: ops.Interaction) -> ops.Interaction:
    """Return an interaction with nothing that is long, but so that one sees whether it has a prompt and a response."""
    prompt = None if row["prompt"] is None else ""
    response = "…" if row["response"] else None
    return cast("ops.Interaction", {**row, "prompt": prompt, "response": response, "error": None, "metadata": {}})


def _place(row: ops.Interaction) -> _Place:
    return _place_of(ops.cursor_of(row))


def _place_of(cursor: ops.TurnCursor) -> _Place:
    times = datetime.fromisoformat(cursor["at"]), datetime.fromisoformat(cursor["arrived"])
    return (cursor["turn"] >= NO_TURN, cursor["turn"], *times, cursor["interaction_id"])
