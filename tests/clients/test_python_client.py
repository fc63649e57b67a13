"""The Python client by itself: what it keeps, what it says, and what it does when the service doesn't answer well."""

import errno
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.clients.conftest import OpenLog, ToldService
from turnlog import Turnlog, current_session
from turnlog import spool as spool_module

PROBLEM = {"code": "invalid", "detail": "No", "fields": []}
NOWHERE = "http://127.0.0.1:9"  # nothing listens at the discard port


def files(folder: Path) -> list[Path]:
    return sorted((folder / "spool").glob("*.spool"))


def lines_in(folder: Path) -> list[str]:
    return [line for path in files(folder) for line in path.read_text().splitlines()[1:]]


def test_making_a_log_and_a_session_starts_nothing(tmp_path: Path, open_log: OpenLog) -> None:
    threads = threading.active_count()
    open_log(NOWHERE).session("chat", user_id="ada")
    assert threading.active_count() == threads
    assert not (tmp_path / "spool").exists()


def test_a_record_is_in_the_spool_when_the_call_returns(tmp_path: Path, open_log: OpenLog) -> None:
    log = open_log(NOWHERE)
    receipt = log.session("chat").log(prompt="Q", response="A")
    (line,) = lines_in(tmp_path)
    assert json.loads(line.split(" ", 3)[3])["response"] == "A"
    assert receipt.durable
    deadline = time.monotonic() + 10
    while receipt.state == "queued" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert receipt.state == "kept"
    with pytest.raises(TimeoutError):
        receipt.result(0.01)
    modes = [path.stat().st_mode & 0o777 for path in [tmp_path / "spool", *files(tmp_path)]]
    assert modes == [0o700, 0o600]


def test_flush_ends_in_time_and_tells_what_waits(open_log: OpenLog) -> None:
    log = open_log(NOWHERE)
    log.session("chat").log(prompt="Q", response="A")
    started = time.monotonic()
    report = log.flush(0.3)
    assert time.monotonic() - started < 1
    assert (report.waiting, report.stored, report.complete, report.durable) == (1, 0, False, True)
    assert report.error is not None
    assert "can't be reached" in report.error


def test_the_next_log_sends_what_one_left(told: ToldService, tmp_path: Path, open_log: OpenLog) -> None:
    first = open_log(NOWHERE)
    for number in range(3):
        first.session("chat").log(prompt=str(number), response="A")
    assert first.close(0).waiting == 3
    second = open_log(told.url)
    report = second.flush(10)
    assert (report.adopted, report.waiting, report.created) == (3, 0, 0)
    assert [row["prompt"] for row in told.memory.sessions()["chat"]] == ["0", "1", "2"]
    assert files(tmp_path) == []


def test_nobody_takes_the_file_of_a_log_that_lives(told: ToldService, tmp_path: Path, open_log: OpenLog) -> None:
    living = open_log(NOWHERE)
    living.session("chat").log(prompt="Q", response="A")
    assert open_log(told.url).flush(0.5).adopted == 0
    assert len(lines_in(tmp_path)) == 1


def test_a_pause_that_the_service_asks_for_is_kept(told: ToldService, open_log: OpenLog) -> None:
    told.say(429, {"code": "rate-limited", "detail": "Slower"}, Retry_After="1")
    log = open_log(told.url)
    started = time.monotonic()
    receipt = log.session("chat").log(prompt="Q", response="A")
    assert log.flush(0.5).waiting == 1
    assert receipt.result(10).state == "created"
    assert time.monotonic() - started >= 1
    assert len(told.calls) == 2


@pytest.mark.parametrize("status", [408, 500, 502, 503])
def test_what_may_pass_is_tried_again(told: ToldService, open_log: OpenLog, status: int) -> None:
    told.say(status)
    assert open_log(told.url).session("chat").log(prompt="Q", response="A").result(10).state == "created"


@pytest.mark.parametrize(
    "answer", [(401, {"code": "unknown-key", "detail": "Unknown"}), (404, None), (200, "a page"), (302, None)]
)
def test_what_concerns_the_call_leaves_records_where_they_are(
    told: ToldService, open_log: OpenLog, answer: tuple[int, Any]
) -> None:
    for _ in range(20):
        told.say(*answer)
    log = open_log(told.url)
    receipt = log.session("chat").log(prompt="Q", response="A")
    started = time.monotonic()
    report = log.flush(5)
    assert time.monotonic() - started < 4, "nobody has to wait for what only a person can change"
    assert (report.waiting, report.rejected, receipt.done()) == (1, 0, False)
    assert str(answer[0]) in str(report.error)
    told.answers.clear()
    assert log.flush(5).created == 1


def test_a_batch_that_is_refused_costs_only_the_record_that_is_wrong(told: ToldService, open_log: OpenLog) -> None:
    def answer(path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if b"poison" in body:
            return 413, {}, json.dumps({"code": "too-large", "detail": "Too large"}).encode()
        return ordinary(path, body)

    ordinary = told.answer
    told.answer = answer  # type: ignore[method-assign]
    log = open_log(told.url)
    receipts = [log.session("chat").log(prompt="poison" if n == 5 else "Q", response="A") for n in range(9)]
    report = log.flush(10)
    assert (report.created, report.rejected, report.waiting) == (8, 1, 0)
    assert [receipt.state for receipt in receipts].count("rejected") == 1
    (letter,) = log.dead_letters()
    assert (letter["record"]["prompt"], letter["reason"]) == ("poison", "too-large")
    told.answer = ordinary  # type: ignore[method-assign]
    assert log.retry_dead_letters() == 1
    assert log.flush(10).created == 9
    assert log.dead_letters() == []


def test_what_was_erased_is_kept_nowhere(told: ToldService, tmp_path: Path, open_log: OpenLog) -> None:
    told.say(200, {"receipts": [{"receipt": "rejected", "reason": "erased", "fields": []}]})
    log = open_log(told.url)
    assert log.session("chat").log(prompt="secret", response="A").result(10).reason == "erased"
    log.close()
    assert [path for path in (tmp_path / "spool").iterdir() if b"secret" in path.read_bytes()] == []


def test_feedback_from_a_clock_that_is_ahead_counts_without_its_time(told: ToldService, open_log: OpenLog) -> None:
    told.say(422, PROBLEM | {"fields": [{"path": "$.given_at", "detail": "Is in the future"}]})
    outcome = open_log(told.url).session("chat").feedback(True, interaction_id="one").result(10)
    assert (outcome.state, outcome.dropped) == ("created", ("given_at",))
    assert [("given_at" in body) for _, body in told.calls] == [True, False]


def test_a_full_spool_refuses_and_says_so(open_log: OpenLog, caplog: pytest.LogCaptureFixture) -> None:
    refused: list[str] = []
    log = open_log(NOWHERE, max_bytes=3000, on_refused=lambda _, outcome: refused.append(outcome.reason or ""))
    receipts = [log.session("chat").log(prompt="Q", response="A" * 500) for _ in range(10)]
    states = [receipt.state for receipt in receipts]
    assert states.count("refused") == log.report().refused == len(refused) > 0
    assert set(refused) == {"full"}
    assert not receipts[-1].durable
    assert receipts[-1].result(0).reason == "full"
    assert [record.name for record in caplog.records].count("turnlog.client") <= 2, "once, not for each record"


def test_a_call_may_wait_for_room(told: ToldService, open_log: OpenLog) -> None:
    log = open_log(told.url, max_bytes=3 << 20, block=10)
    receipts = [log.session("chat").log(prompt="Q", response="A" * 500_000) for _ in range(20)]
    assert log.flush(20).created == 20
    assert {receipt.state for receipt in receipts} == {"created"}


def test_a_disk_that_is_full_is_told_of_and_nothing_is_lost_while_the_process_lives(
    told: ToldService, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(told.url)
    told.say(503, Retry_After="1")
    log.session("chat").log(prompt="before", response="A")
    real = os.pwrite

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        return real(fd, data[:10], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    receipt = log.session("chat").log(prompt="while full", response="A")
    assert not receipt.durable
    report = log.report()
    assert (report.durable, report.in_memory, report.refused) == (False, 1, 0)
    monkeypatch.undo()
    assert receipt.result(10).state == "created"
    deadline = time.monotonic() + 5
    while not log.session("chat").log(prompt="after", response="A").durable:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    report = log.flush(10)
    assert report.durable
    assert report.complete
    assert {row["prompt"] for row in told.memory.sessions()["chat"]} == {"before", "while full", "after"}


def test_without_a_disk_records_are_in_memory_and_the_report_says_so(told: ToldService, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    for options in ({"durable": False}, {"spool": in_the_way / "spool"}):
        log = Turnlog(told.url, **options)
        receipt = log.session("chat").log(prompt="Q", response="A")
        assert receipt.result(10).state == "created"
        report = log.close()
        assert (report.durable, report.in_memory, report.created) == (False, 1, 1)


def test_damaged_lines_are_told_of_and_kept_and_their_neighbours_sent(
    told: ToldService, tmp_path: Path, open_log: OpenLog
) -> None:
    first = open_log(NOWHERE)
    for number in range(3):
        first.session("chat").log(prompt=f"prompt {number}", response="A")
    first.close(0)
    (path,) = files(tmp_path)
    data = path.read_bytes().replace(b"prompt 1", b"prampt 1")
    path.write_bytes(data[:-10])
    log = open_log(told.url)
    report = log.flush(10)
    assert (report.damaged, report.adopted, report.waiting) == (2, 3, 0)
    assert [row["prompt"] for row in told.memory.sessions()["chat"]] == ["prompt 0"]
    assert sorted(letter["kind"] for letter in log.dead_letters()) == ["damaged", "damaged"]


def test_nothing_reaches_the_spool_before_it_is_redacted(tmp_path: Path, open_log: OpenLog) -> None:
    def redact(record: dict[str, Any]) -> dict[str, Any] | None:
        if record.get("prompt") == "fails":
            raise ValueError("no")
        return None if record.get("prompt") == "left out" else {**record, "prompt": "[redacted]"}

    log = open_log(NOWHERE, redact=redact)
    chat = log.session("chat")
    states = [chat.log(prompt=prompt, response="A").state for prompt in ("secret", "left out", "fails")]
    assert states[0] in {"queued", "kept"}
    assert states[1:] == ["refused", "refused"]
    assert "secret" not in str(lines_in(tmp_path))
    report = log.report()
    assert (report.refused, report.failures) == (2, 1)


def test_a_failure_of_logging_never_reaches_the_caller(
    open_log: OpenLog, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(NOWHERE)
    itself: list[Any] = []
    itself.append(itself)
    assert log.session("chat").log(prompt=itself, response="A").state == "refused"

    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(log.core, "_queue", broken)
    for _ in range(3):
        with log.session("chat").turn(prompt="Q") as turn:
            turn.append("A")
    assert (log.report().failures, log.report().refused) == (7, 7)
    said = [record.getMessage() for record in caplog.records if "the program goes on" in record.getMessage()]
    assert len(said) == 2, "one for each kind"


def test_a_sender_that_fails_goes_on(told: ToldService, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(told.url)
    real, failures = log.core.transport.post, [ZeroDivisionError(), ZeroDivisionError()]

    def post(path: str, body: bytes) -> Any:
        if failures:
            raise failures.pop()
        return real(path, body)

    monkeypatch.setattr(log.core.transport, "post", post)
    assert log.session("chat").log(prompt="Q", response="A").result(10).state == "created"
    assert log.report().failures == 2


def test_a_child_begins_anew_and_leaves_to_its_parent_what_is_the_parents(
    told: ToldService, tmp_path: Path, open_log: OpenLog
) -> None:
    log = open_log(told.url)
    for _ in range(3):
        told.say(503)
    held = log.session("chat").turn(prompt="of the parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            ours = log.session("chat").log(prompt="of the child", response="A")
            done = held.receipt.result(0).reason is not None and ours.result(10).state == "created"
            status = 0 if done and log.flush(5).created == 1 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.complete("A")
    assert log.flush(10).complete
    rows = {row["prompt"]: row["status"] for row in told.memory.sessions()["chat"]}
    assert rows == {"of the parent": "completed", "of the child": "completed"}


def test_the_file_of_a_parent_that_is_gone_can_be_adopted_while_its_child_lives(
    told: ToldService, tmp_path: Path, open_log: OpenLog
) -> None:
    reader, writer = os.pipe()
    parent = os.fork()
    if parent == 0:
        log = Turnlog(NOWHERE, spool=tmp_path / "spool")
        log.session("chat").log(prompt="Q", response="A")
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)  # until the test ends
        os._exit(0)
    os.close(reader)
    try:
        os.waitpid(parent, 0)
        assert open_log(told.url).flush(10).adopted == 1
    finally:
        os.close(writer)


def test_clocks_that_jump_change_no_latency_and_no_pause(
    told: ToldService, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(told.url)
    told.say(503)
    turn = log.session("chat").turn(prompt="Q")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86_400)
    monkeypatch.setattr(time, "time_ns", lambda: int((real() - 86_400) * 1e9))
    turn.append("A")
    turn.complete()
    assert log.flush(10).complete
    (row,) = told.memory.sessions()["chat"]
    assert 0 <= row["latency_ms"] < 60_000
    assert row["completed_at"] > row["started_at"]


def test_an_answer_that_grows_for_long_is_saved_meanwhile(
    told: ToldService, open_log: OpenLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("turnlog.client._SAVE_S", 0)
    log = open_log(told.url)
    turn = log.session("chat").turn(prompt="Q")
    turn.append("Half")
    log.flush(10)
    (row,) = told.memory.sessions()["chat"]
    assert (row["status"], row["response"]) == ("pending", "Half")
    turn.complete("Half and more")
    log.flush(10)
    (row,) = told.memory.sessions()["chat"]
    assert (row["status"], row["response"]) == ("completed", "Half and more")


def test_a_session_is_announced_once(told: ToldService, open_log: OpenLog) -> None:
    log = open_log(told.url)
    for _ in range(5):
        log.session("chat", user_id="ada").log(prompt="Q", response="A")
    log.flush(10)
    assert [path for path, _ in told.calls].count("/v1/sessions") == 1


def test_the_current_session_is_that_of_the_block(open_log: OpenLog) -> None:
    log = open_log(NOWHERE)
    with log.session("outer") as outer:
        with log.session("inner") as inner:
            assert current_session() is inner
        assert current_session() is outer
    assert current_session() is None


def test_a_log_in_memory_has_the_receipts_of_a_service() -> None:
    log = Turnlog.memory()
    chat = log.session("chat", user_id="ada")
    with chat.turn(prompt="Q") as turn:
        turn.complete("A")
    turn.feedback(True)
    again = [
        chat.log("P", response, interaction_id="one").result(5).state for response in ("A", "A", "A and more", "B")
    ]
    assert again == ["created", "duplicate", "filled", "conflict"]
    first, second = log.stored["chat"]
    assert (first["status"], first["response"], first["feedback"][0]["value"]) == ("completed", "A", True)
    assert second["response"] == "A and more"
    assert chat.messages([{"role": "user", "content": "Hi"}]).result(5).state == "created"
    log.close()


def test_callbacks_and_receipts_that_nobody_keeps(told: ToldService, open_log: OpenLog) -> None:
    log, called = open_log(told.url), threading.Event()
    log.session("chat").log(prompt="Q", response="A").add_done_callback(lambda _: called.set())
    assert called.wait(10)
    assert log.flush(10).created == 1


@pytest.mark.parametrize("url", ["log.example.com", "ftp://log.example.com", "https://"])
def test_an_address_that_is_none_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="is no address"):
        Turnlog(url)


def test_settings_come_from_the_environment(told: ToldService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNLOG_URL", told.url + "/prefix/")
    monkeypatch.setenv("TURNLOG_KEY", "turnlog_sk_x")
    monkeypatch.setenv("TURNLOG_SPOOL", str(tmp_path / "here"))
    with Turnlog() as log:
        log.session("chat").log(prompt="Q", response="A").result(10)
        assert list((tmp_path / "here").glob("*.spool"))
    assert told.calls[0][0] == "/prefix/v1/interactions/batch"


def test_keys_are_never_written(told: ToldService, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    log = Turnlog(told.url, "turnlog_sk_secret", spool=tmp_path / "spool")
    told.say(401, {"code": "unknown-key", "detail": "Unknown"})
    log.session("chat").log(prompt="Q", response="A")
    report = log.flush(5)
    log.close()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "spool").iterdir())
    assert "secret" not in f"{kept!r} {caplog.text} {report}"


def test_errno_of_a_short_write_is_that_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_module.Spool(tmp_path, 1 << 20)
    monkeypatch.setattr(os, "pwrite", lambda *_: 1)
    with pytest.raises(OSError, match="full") as raised:
        spool.put(b"data")
    assert raised.value.errno == errno.ENOSPC
    spool.close()


def test_garbage_and_signals_in_the_middle_of_a_record_cost_nothing(told: ToldService, open_log: OpenLog) -> None:
    log = open_log(told.url)
    real = os.pwrite
    left = [3]

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        if left[0]:
            left[0] -= 1
            log.session("chat").log(prompt=f"of a handler {left[0]}", response="A")
            log.session("chat").turn(prompt=f"forgotten {left[0]}")
        return real(fd, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        log.session("chat").log(prompt="outer", response="A")
    report = log.flush(10)
    assert (report.waiting, report.refused, report.failures) == (0, 0, 0)
    statuses = {row["prompt"]: row["status"] for row in told.memory.sessions()["chat"]}
    assert statuses.pop("outer") == "completed"
    assert {name.split()[0]: status for name, status in statuses.items()} == {
        "of": "completed",
        "forgotten": "abandoned",
    }


def test_what_was_in_memory_gets_to_a_disk_that_has_room_again(
    told: ToldService, tmp_path: Path, open_log: OpenLog, caplog: pytest.LogCaptureFixture
) -> None:
    log = open_log(NOWHERE)
    log.session("chat").log(prompt="on disk", response="A")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", lambda *_: 0)
        log.session("chat").log(prompt="in memory", response="A")
    assert log.report().in_memory == 1
    log.close(0)
    assert open_log(told.url).flush(10).adopted == 2
    without = Turnlog(NOWHERE, durable=False)
    without.session("chat").log(prompt="lost", response="A")
    assert (without.close(0).waiting, "1 records that are in memory only end" in caplog.text) == (1, True)


def test_a_log_goes_on_after_it_was_closed(told: ToldService, open_log: OpenLog) -> None:
    log = open_log(NOWHERE)
    log.session("chat").log(prompt="1", response="A")
    log.close(0)
    log.core.transport = Turnlog(told.url).core.transport
    assert log.flush(10).adopted == 1
    log.session("chat").log(prompt="2", response="A")
    assert (log.flush(10).created, log.report().waiting) == (1, 0)
