"""The last guard of reads: a reader that is limited to a caller's own sessions asks the store for nothing else."""

from collections.abc import Callable
from typing import Any

import pytest

from logging_store import operations as ops
from logging_store.errors import NotOwner, SessionNotFound, StoreUnavailable
from logging_store.log_reader import LogReader
from tests.conftest import PROJECT

SESSION = "00000000-0000-0000-0000-00000000000a"


class Own:
    """Owns what has its own name as the owner."""

    def __init__(self, user_id: str | None) -> None:
        self.user_id = user_id
        self.author = user_id or "token:1"

    def owner_of(self, session_id: str) -> str:  # noqa: ARG002 - the same of each
        return f"user:{self.user_id}" if self.user_id else self.author


class Store:
    """Keeps what is asked, and answers with a session of `owner`."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.asked: list[tuple[str, Any]] = []

    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        assert project == PROJECT
        self.asked.append((operation.name, query))
        session = {"session_id": SESSION, "owner": self.owner, "erased_at": None}
        return session if operation is ops.SESSION else {"session": session}

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} is not of this test")


Read = Callable[[LogReader], Any]
LISTS: list[Read] = [
    lambda reader: reader.sessions({"limit": 10, "sort": "activity"}),
    lambda reader: reader.sessions_by_id({"limit": 10}),
    lambda reader: reader.count_sessions({}),
    lambda reader: reader.search({"terms": ["hello"], "limit": 10}),
]
READS: list[Read] = [
    lambda reader: reader.session(SESSION),
    lambda reader: reader.transcript(SESSION, {"limit": 10}),
    lambda reader: reader.session_revisions(SESSION, {"limit": 10}),
    lambda reader: reader.outline(SESSION, {"limit": 10}),
    lambda reader: reader.conversation(SESSION, {"limit": 10, "feedback": 10}),
    lambda reader: reader.gaps(SESSION, 10),
    lambda reader: reader.participants(SESSION),
    lambda reader: reader.feedback(SESSION, {"limit": 10}),
]


@pytest.mark.parametrize("read", LISTS)
def test_who_is_no_user_has_no_list(read: Read) -> None:
    store = Store("token:1")
    with pytest.raises(NotOwner, match="Only a signed-in user"):
        read(LogReader(store, PROJECT, Own(None)))
    assert store.asked == []


@pytest.mark.parametrize("read", LISTS)
def test_a_list_is_of_the_users_own_sessions(read: Read) -> None:
    store = Store("user:ada")
    read(LogReader(store, PROJECT, Own("ada")))
    ((_, query),) = store.asked
    assert (query["user_id"], query["unclaimed"]) == ("ada", True)
    read(LogReader(store, PROJECT))
    assert "user_id" not in store.asked[1][1]


def test_ratings_of_a_list_are_the_users_own() -> None:
    store = Store("user:ada")
    reader = LogReader(store, PROJECT, Own("ada"))
    reader.count_sessions({"rating": True})
    reader.count_sessions({"unrated": True})
    reader.count_sessions({})
    assert [query.get("author") for _, query in store.asked] == ["ada", "ada", None]


@pytest.mark.parametrize("read", READS)
def test_a_session_of_another_is_missing(read: Read) -> None:
    with pytest.raises(SessionNotFound):
        read(LogReader(Store("user:bob"), PROJECT, Own("ada")))


@pytest.mark.parametrize("read", [read for n, read in enumerate(READS) if n != 5])  # gaps have an answer of their own
def test_a_session_of_ones_own_is_read(read: Read) -> None:
    assert read(LogReader(Store("user:ada"), PROJECT, Own("ada")))
    assert read(LogReader(Store("user:bob"), PROJECT))


def test_a_limited_caller_reads_only_its_own_feedback() -> None:
    store = Store("user:ada")
    page = LogReader(store, PROJECT, Own("ada")).feedback(SESSION, {"limit": 10})
    assert page["session"]["session_id"] == SESSION
    assert store.asked[-1][1]["author"] == "ada"
    LogReader(store, PROJECT).feedback(SESSION, {"limit": 10, "interaction": "1"})
    assert "author" not in store.asked[-1][1]
    assert len(store.asked[-1][1]["interaction_ids"]) == 1


def test_only_who_reads_everything_reads_what_is_recent() -> None:
    with pytest.raises(NotOwner, match="scope read"):
        LogReader(Store("user:ada"), PROJECT, Own("ada")).recent({"limit": 1})


class Answering(Store):
    """Answers each transcript with `answer`, or raises it."""

    def __init__(self, answer: Any) -> None:
        super().__init__("user:ada")
        self.answer = answer

    def ask(self, operation: ops.Operation[Any, Any], project: str | None, query: Any) -> Any:
        found = super().ask(operation, project, query)
        if isinstance(self.answer, Exception):
            raise self.answer
        return found | self.answer


@pytest.mark.parametrize(
    ("answer", "latest"),
    [
        ({"interactions": [{"n": 1}], "complete": True}, ([{"n": 1}], True)),
        ({"interactions": [{"n": 1}], "complete": True, "before": True}, ([{"n": 1}], False)),
        ({"interactions": [], "complete": False}, ([], False)),
        (SessionNotFound(), ([], True)),
        (StoreUnavailable("away"), ([], False)),
    ],
)
def test_the_latest_interactions_are_all_only_where_that_is_known(answer: Any, latest: Any) -> None:
    assert LogReader(Answering(answer), PROJECT).latest(SESSION, 3) == latest
