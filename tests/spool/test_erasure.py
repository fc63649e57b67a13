"""An erasure also purges this machine's disk: the spool files of all processes, and the dead letters."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
from flask.testing import FlaskClient

from logging_store import operations as ops
from logging_store.batches import Batch
from logging_store.errors import Invalid, StoreUnavailable
from logging_store.records import identity
from logging_store.spool import Spool
from logging_store.spool.files import SpoolFile
from logging_store.spool.locks import BROKEN
from logging_store.spool.purge_target import PurgeTarget
from tests.http_calls import create, in_path, log, problem, transcript
from tests.spool.conftest import delivered, eventually, is_on_disk
from tests.spool.flaky_store import PROJECT, FlakyStore, batch_of
from tests.store_calls import ask

NOT_NOW = StoreUnavailable("not now")
SESSION, OTHER = "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"


@pytest.fixture
def nothing_is_delivered(inner: FlakyStore, spool: Spool) -> Callable[[], None]:
    """Let writes wait though the store answers; return a way to wait until it is known that it does."""
    inner.refuses = lambda _: NOT_NOW
    return lambda: eventually(lambda: spool.breaker.is_closed, "the probe succeeds")


def erased(client: FlaskClient, path: str) -> dict[str, Any]:
    answer = client.delete(path)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.get_json()
    return report


def test_a_session_that_is_only_spooled_is_erased_for_good(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None], tmp_path: Path
) -> None:
    log(client, session_id="s", interaction_id="1", prompt="a secret")
    log(client, session_id="other", prompt="another")
    nothing_is_delivered()
    would = erased(client, in_path("s") + "?dry_run=true")
    assert (would["spooled"], would["interactions"], would["erased_at"]) == (1, 0, None)
    assert is_on_disk(b"a secret", tmp_path)

    report = erased(client, in_path("s"))
    assert (report["spooled"], report["interactions"], report["dead_letters"]) == (1, 0, 0)
    assert not is_on_disk(b"a secret", tmp_path)
    assert is_on_disk(b"another", tmp_path)
    assert problem(client.get(in_path("s")))["status"] == 410
    inner.refuses = lambda _: None
    assert problem(log(client, session_id="s", interaction_id="1", prompt="a secret"))["status"] == 410
    delivered(spool)
    assert [row["prompt"] for row in transcript(client, "other")] == ["another"]


def test_while_the_store_is_away_nothing_is_erased(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    inner.away = NOT_NOW
    log(client, session_id="s", prompt="Hello")
    assert problem(client.delete(in_path("s")))["status"] == 503
    assert problem(client.delete("/v1/users/ada"))["status"] == 503
    assert problem(client.get("/v1/users/ada/export"))["status"] == 503
    inner.away = None
    delivered(spool)
    assert len(transcript(client, "s")) == 1


def test_an_unknown_session_is_not_found(client: FlaskClient) -> None:
    assert problem(client.delete(in_path("s")))["status"] == 404
    assert problem(client.delete(in_path("s") + "?dry_run=true"))["status"] == 404


def test_the_files_of_all_processes_lose_the_session_and_nothing_else(
    open_spool: Callable[..., Spool], inner: FlakyStore, tmp_path: Path
) -> None:
    here, sibling = open_spool(), open_spool()
    inner.refuses = lambda _: NOT_NOW
    shared = Batch.merge([batch_of("a secret", session_id=SESSION), batch_of("kept", session_id=OTHER)])
    for spool in (here, sibling):
        spool.write(batch_of("a secret", session_id=SESSION))
        spool.write(shared)
    assert len(here.directory.files()) == 2
    eventually(lambda: here.breaker.is_closed, "the probe succeeds")

    report = ask(here, ops.ERASE, PROJECT, {"session_id": SESSION})
    assert report is not None
    assert report["spooled"] == 4
    assert not is_on_disk(b"a secret", tmp_path)
    assert here.directory.depth().records == 2
    waiting = here.directory.batches_for(PROJECT, OTHER)
    assert [[row["prompt"] for row in batch.interactions] for batch in waiting] == [["kept"]] * 2
    assert here.directory.batches_for(PROJECT, SESSION) == []


def test_an_erased_entry_is_not_split_back_into_the_file(tmp_path: Path) -> None:
    # the drain reads an entry, somebody erases it, and then the drain parts it
    file = SpoolFile.create(tmp_path)
    file.append([Batch.merge([batch_of("one", session_id=SESSION), batch_of("two", session_id=OTHER)])])
    (entry,) = file.oldest(10, 10_000)
    file.remove([entry])
    file.split(entry, entry.batch.halves())
    assert file.is_empty()
    file.close()


def test_an_erasure_waits_for_a_file_that_is_being_copied(
    client: FlaskClient, spool: Spool, nothing_is_delivered: Callable[[], None]
) -> None:
    log(client, session_id="s", prompt="a secret")
    log(client, session_id="other", prompt="another")
    nothing_is_delivered()
    (file,) = spool.directory.files()
    file.with_suffix(BROKEN).touch()
    assert problem(client.delete(in_path("s")))["status"] == 503
    file.with_suffix(BROKEN).unlink()
    assert erased(client, in_path("s"))["spooled"] == 1


def test_a_corrupt_file_is_reported(
    client: FlaskClient, spool: Spool, nothing_is_delivered: Callable[[], None]
) -> None:
    log(client, session_id="s", prompt="a secret")
    nothing_is_delivered()
    (file,) = spool.directory.files()
    file.with_name("spool-0.sqlite3").write_bytes(b"not a database, " * 100)
    report = erased(client, in_path("s"))
    assert (report["spooled"], report["unreadable_files"]) == (1, 1)


def test_a_locked_file_is_reported_and_erased_by_the_next_call(
    client: FlaskClient, spool: Spool, nothing_is_delivered: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logging_store.spool.files._BUSY_MS", 10)
    log(client, session_id="s", prompt="a secret")
    nothing_is_delivered()
    (file,) = spool.directory.files()
    holder = apsw.Connection(str(file))
    holder.execute("begin exclusive")
    assert problem(client.delete(in_path("s")))["status"] == 503
    holder.execute("rollback")
    holder.close()
    answers = [client.delete(in_path("s"))]

    def is_erased() -> bool:
        if answers[-1].status_code == 503:  # the drain may just be writing to the file
            answers.append(client.delete(in_path("s")))
        return answers[-1].status_code == 200

    eventually(is_erased, "the file can be changed again")
    assert answers[-1].get_json()["spooled"] == 1


def test_a_numbered_session_is_purged_under_its_number_too(
    client: FlaskClient, spool: Spool, inner: FlakyStore, tmp_path: Path
) -> None:
    # stored under an id of its own, and meant by its number in what waits
    create(client, session_id="own", folder_id="f", session_number=2)
    inner.refuses = lambda _: NOT_NOW
    create(client, folder_id="f", session_number=2, title="a secret")
    create(client, folder_id="f", session_number=3, title="another")
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")
    assert erased(client, in_path("own"))["spooled"] == 1
    assert not is_on_disk(b"a secret", tmp_path)
    assert is_on_disk(b"another", tmp_path)


def test_everything_spooled_about_a_user_is_purged(
    client: FlaskClient, spool: Spool, inner: FlakyStore, tmp_path: Path
) -> None:
    create(client, session_id="stored", user_id="ada")
    create(client, session_id="bob's", user_id="bob")
    inner.refuses = lambda batch: Invalid("no good", field="prompt") if "dead" in str(batch.interactions) else NOT_NOW
    log(client, session_id="stored", prompt="1 secret")
    create(client, session_id="new", user_id="ada", title="2 secret")
    log(client, session_id="new", prompt="3 secret")
    log(client, session_id="bob's", prompt="4 secret", participant="ada")
    client.post("/v1/folders", json={"folder_id": "f", "user_id": "ada", "name": "5 secret"})
    client.put(in_path("bob's") + "/participants/ada", json={"role": "6 secret"})
    log(client, session_id="bob's", prompt="Bob says", participant="bob")
    create(client, session_id="ada", title="not by ada", user_id="bob")
    eventually(lambda: spool.breaker.is_closed, "the probe succeeds")

    would = erased(client, "/v1/users/ada?dry_run=true")
    report = erased(client, "/v1/users/ada")
    assert (would["spooled"], report["spooled"]) == (6, 6)
    assert not is_on_disk(b"secret", tmp_path)
    assert is_on_disk(b"Bob says", tmp_path)
    assert is_on_disk(b"not by ada", tmp_path)
    inner.refuses = lambda _: None
    delivered(spool)
    assert [row["prompt"] for row in transcript(client, "bob's")] == ["Bob says"]
    assert problem(client.get(in_path("new")))["status"] == 410
    assert problem(client.get("/v1/folders/f"))["status"] == 404
    assert client.get(in_path("ada")).get_json()["user_id"] == "bob"
    assert spool.dead_letters.count() == 0


def test_dead_letters_of_a_user_are_purged_and_others_stay(
    client: FlaskClient, spool: Spool, inner: FlakyStore, tmp_path: Path
) -> None:
    inner.away = NOT_NOW
    create(client, session_id="hers", user_id="ada", title="1 secret")
    log(client, session_id="bob's", prompt="2 secret", participant="ada")
    log(client, session_id="bob's", prompt="Bob says", participant="bob")
    inner.refuses = lambda _: Invalid("no good")
    inner.away = None
    delivered(spool)
    assert spool.dead_letters.count() == 3
    assert erased(client, "/v1/users/ada?dry_run=true")["dead_letters"] == 2
    assert erased(client, "/v1/users/ada")["dead_letters"] == 2
    assert not is_on_disk(b"secret", tmp_path)
    (letter,) = spool.dead_letters.list()
    assert letter.batch.interactions[0]["prompt"] == "Bob says"


def test_a_session_that_is_only_a_dead_letter_is_erased(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    inner.away = NOT_NOW
    log(client, session_id="s", prompt="a secret")
    inner.refuses = lambda _: Invalid("no good")
    inner.away = None
    delivered(spool)
    report = erased(client, in_path("s"))
    assert (report["dead_letters"], report["interactions"]) == (1, 0)
    inner.refuses = lambda _: None
    assert problem(log(client, session_id="s", prompt="late"))["status"] == 410


def test_a_purge_removes_no_other_row() -> None:
    folder = identity.folder(PROJECT, "f").id
    batch = Batch(
        PROJECT,
        folders=[{"id": folder, "user_id": "ada", "key": "f"}],
        sessions=[{"id": SESSION, "folder_id": folder, "user_id": "bob"}, {"id": OTHER, "implicit": True}],
        participants=[{"session_id": SESSION, "participant": "ada"}, {"session_id": SESSION, "participant": "bob"}],
        interactions=[{"session_id": OTHER, "id": SESSION, "participant": "ada"}],
        feedback=[{"session_id": SESSION, "interaction_id": OTHER, "author": author} for author in ("ada", "bob")],
        spans=[{"trace_session": SESSION, "user_id": "ada"}],  # the store rejects what is left of them
    )
    rest = PurgeTarget(PROJECT, users=frozenset({"ada"})).remaining(batch)
    assert [row["id"] for row in rest.sessions] == [SESSION, OTHER]
    assert [row["participant"] for row in rest.participants] == ["bob"]
    assert rest.interactions == []
    assert [row["author"] for row in rest.feedback] == ["bob"]
    assert rest.spans == batch.spans
    # the folder isn't known any more but by what a session needs of it
    assert rest.folders == [{"id": folder, "key": "f", "created_at": None, "implicit": True}]
    assert PurgeTarget(PROJECT, frozenset({OTHER})).remaining(batch).count == batch.count - 2
    assert PurgeTarget(PROJECT, users=frozenset({"nobody"})).remaining(batch) == batch


def test_a_user_may_be_called_like_the_claim_of_a_token() -> None:
    claims = ("token:abc", "user:token:abc")
    batch = Batch(PROJECT, interactions=[{"session_id": SESSION, "id": each, "claim": each} for each in claims])
    rest = PurgeTarget(PROJECT, users=frozenset({"token:abc"})).remaining(batch)
    assert [row["claim"] for row in rest.interactions] == ["token:abc"]


def test_a_turn_that_is_only_spooled_is_erased_for_good(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None], tmp_path: Path
) -> None:
    for n, text in (("1", "a secret"), ("2", "another")):
        log(client, session_id="s", interaction_id=n, prompt=text)
        client.post(f"{in_path('s')}/interactions/{n}/feedback", json={"value": text})
    nothing_is_delivered()
    path = f"{in_path('s')}/interactions/1"
    would = erased(client, f"{path}?dry_run=true")
    assert (would["spooled"], would["interactions"], would["erased_at"]) == (2, 0, None)
    assert is_on_disk(b"a secret", tmp_path)
    report = erased(client, path)
    assert (report["spooled"], report["interactions"], report["dead_letters"]) == (2, 0, 0)
    assert not is_on_disk(b"a secret", tmp_path)
    assert is_on_disk(b"another", tmp_path)
    inner.refuses = lambda _: None
    assert problem(log(client, session_id="s", interaction_id="1", prompt="a secret"))["status"] == 410
    delivered(spool)
    assert sorted(row["prompt"] for row in transcript(client, "s")) == ["[erased]", "another"]
    assert [row["value"] for row in client.get(f"{in_path('s')}/feedback").get_json()["feedback"]] == ["another"]
    assert spool.dead_letters.count() == 0


def test_a_spooled_copy_of_an_erased_turn_is_not_shown_and_not_stored(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None]
) -> None:
    inner.refuses = lambda _: None
    secret = {"session_id": "s", "interaction_id": "1", "prompt": "a secret", "tags": ["secret"], "error": "secret"}
    log(client, **secret)
    erased(client, f"{in_path('s')}/interactions/1")
    inner.refuses = lambda _: NOT_NOW
    log(client, **secret)
    nothing_is_delivered()
    (shown,) = transcript(client, "s")
    assert (shown["prompt"], shown["tags"], shown["error"], shown["spooled"]) == ("[erased]", [], None, False)
    inner.refuses = lambda _: None
    delivered(spool)
    assert transcript(client, "s") == [shown]
    assert spool.dead_letters.count() == 0, "what was erased leaves no dead letter"


def test_a_spooled_session_keeps_its_owner_when_one_of_its_turns_is_erased(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None]
) -> None:
    create(client, session_id="s", user_id="ada", title="T")
    log(client, session_id="s", interaction_id="1", prompt="a secret")
    nothing_is_delivered()
    erased(client, f"{in_path('s')}/interactions/1")
    inner.refuses = lambda _: None
    delivered(spool)
    session = client.get(in_path("s")).get_json()
    assert (session["user_id"], session["title"], session["interaction_count"]) == ("ada", "T", 1)


def test_a_dead_letter_of_an_erased_turn_goes(client: FlaskClient, spool: Spool, inner: FlakyStore) -> None:
    inner.away = NOT_NOW
    for n in ("1", "2"):
        log(client, session_id="s", interaction_id=n, prompt="a secret")
    inner.refuses = lambda batch: Invalid("no good", field="prompt") if batch.interactions else None
    inner.away = None
    delivered(spool)
    assert spool.dead_letters.count() == 2
    inner.refuses = lambda _: None
    assert erased(client, f"{in_path('s')}/interactions/1")["dead_letters"] == 1
    assert spool.dead_letters.count() == 1


def test_spooled_records_of_a_guest_follow_the_merge(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None]
) -> None:
    create(client, session_id="s", user_id="anon-7f")
    log(client, session_id="s", interaction_id="1", prompt="Hi", participant="anon-7f")
    client.post(f"{in_path('s')}/feedback", json={"value": 1, "author": "anon-7f"})
    nothing_is_delivered()
    merged = client.post("/v1/users/anon-7f/merge", json={"into": "ada"})
    assert (merged.status_code, merged.get_json()["sessions"]) == (200, 0)
    inner.refuses = lambda _: None
    delivered(spool)
    assert client.get(in_path("s")).get_json()["user_id"] == "ada"
    assert [row["participant"] for row in transcript(client, "s")] == ["ada"]
    rows = client.get(f"{in_path('s')}/feedback").get_json()["feedback"]
    assert [(row["author"], row["value"]) for row in rows] == [("ada", 1)]
    assert spool.dead_letters.count() == 0


def test_erasing_a_user_finds_the_spooled_records_of_a_guest(
    client: FlaskClient, spool: Spool, inner: FlakyStore, nothing_is_delivered: Callable[[], None], tmp_path: Path
) -> None:
    inner.refuses = lambda _: None
    client.post("/v1/users/anon-7f/merge", json={"into": "ada"})
    inner.refuses = lambda _: NOT_NOW
    create(client, session_id="own", user_id="anon-7f")
    log(client, session_id="own", interaction_id="1", prompt="a secret")
    log(client, session_id="bob's", interaction_id="1", prompt="a secret", participant="anon-7f")
    log(client, session_id="bob's", interaction_id="2", prompt="another", participant="bob")
    nothing_is_delivered()
    would, report = erased(client, "/v1/users/ada?dry_run=true"), erased(client, "/v1/users/ada")
    assert (would["spooled"], report["spooled"]) == (3, 3)
    assert not is_on_disk(b"a secret", tmp_path)
    assert is_on_disk(b"another", tmp_path)
    inner.refuses = lambda _: None
    delivered(spool)
    assert problem(client.get(in_path("own")))["status"] == 410
    assert [row["prompt"] for row in transcript(client, "bob's")] == ["another"]


def test_what_another_machine_spooled_for_a_guest_is_rejected_after_the_user_was_erased(
    client: FlaskClient, spool: Spool, inner: FlakyStore
) -> None:
    at = "2026-01-01T00:00:00Z"
    client.post("/v1/users/anon-7f/merge", json={"into": "ada"})
    erased(client, "/v1/users/ada")
    session = identity.session(PROJECT, "own").id
    row = {"id": session, "implicit": False, "created_at": at, "user_id": "anon-7f"}
    said = {"session_id": session, "id": OTHER, "created_at": at, "prompt": "a secret"}
    receipts = inner.write(Batch(PROJECT, [row], [said], late=True))
    assert [each.reason for each in receipts] == ["erased", "erased"]
