"""The interactions of one session as a tree: what each follows, the current branch, and the alternatives."""

import json
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Self, cast

from pydantic_core import to_json

from logging_store import operations as ops
from logging_store.spool.branches import Node, Tree, node_of

_IN_MEMORY = 100  # rows; those of a longer session are on the disk


class SessionTree:
    """The interactions of one session, of which at most a page is in memory, as a tree."""

    def __init__(self, rows: Iterator[ops.Interaction]) -> None:
        self._rows: list[ops.Interaction] = []
        self._disk: sqlite3.Connection | None = None
        nodes: list[Node] = []
        for row in rows:
            self._keep(len(nodes), row)
            nodes.append(node_of(row))
        self._nodes = nodes
        self._numbers = {node.id: number for number, node in enumerate(nodes)}
        self._tree = Tree(nodes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._disk:
            self._disk.close()

    def row(self, number: int) -> ops.Interaction:
        """Return a row; one without a prompt has the prompt of the one that it is another answer for."""
        row = self._stored(number)
        question = number
        met = {number}
        while (question := self._alternative_of(question)) not in met:
            met.add(question)
            if self._nodes[question].asks:
                return cast("ops.Interaction", {**row, "prompt": self._stored(question)["prompt"]})
        return row

    def rows(self, numbers: Iterable[int]) -> Iterator[ops.Interaction]:
        return map(self.row, numbers)

    def path(self, number: int) -> list[int]:
        """Return the numbers of the rows that lead to one, with it, the first one first."""
        numbers = []
        at: str | None = self._nodes[number].id
        while at is not None:
            if at in self._numbers:  # callers may have named one that isn't stored
                numbers.append(self._numbers[at])
            at = self._tree.follows[at]
        return numbers[::-1]

    def current(self, through: int | None = None) -> list[int]:
        """Return the numbers of the rows on the current branch, or on the one through a row."""
        branch = self._tree.branch(None if through is None else self._nodes[through].id)
        return sorted(self._numbers[each] for each in branch)

    def onward(self, number: int) -> list[int]:
        """Return the rows that follow one, on its branch that was said or chosen last."""
        before = set(self.path(number))
        return [each for each in self.current(number) if each not in before]

    def alternatives(self) -> Iterator[list[int]]:
        """Yield the rows that follow the same one, where there are several."""
        groups: dict[str | None, list[int]] = {}
        for number, node in enumerate(self._nodes):
            groups.setdefault(self._tree.follows[node.id], []).append(number)
        return (group for group in groups.values() if len(group) > 1)

    def _alternative_of(self, number: int) -> int:
        """Return which row one is an alternative of, by what it says; itself if it is none, or has a prompt."""
        node = self._nodes[number]
        return number if node.asks else self._numbers.get(node.instead_of or "", number)

    def _stored(self, number: int) -> ops.Interaction:
        if self._disk is None:
            return self._rows[number]
        ((value,),) = self._disk.execute("select value from rows where number = ?", (number,))
        return cast("ops.Interaction", json.loads(value))

    def _keep(self, number: int, row: ops.Interaction) -> None:
        if self._disk is None and number < _IN_MEMORY:
            self._rows.append(row)
            return
        if self._disk is None:
            self._disk = sqlite3.connect("", isolation_level=None)  # no name: a temporary file without one
            self._disk.executescript(
                "pragma journal_mode = off; pragma synchronous = off; pragma temp_store = file;"
                "create table rows (number integer primary key, value blob)"
            )
            for earlier, kept in enumerate(self._rows):
                self._store(earlier, kept)
            self._rows.clear()
        self._store(number, row)

    def _store(self, number: int, row: ops.Interaction) -> None:
        assert self._disk is not None  # noqa: S101 - opened before
        self._disk.execute("insert into rows values (?, ?)", (number, to_json(row, inf_nan_mode="constants")))
