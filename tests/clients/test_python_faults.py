"""Whatever ends a process, what a call acknowledged is stored: each record once, with its text."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.clients.conftest import Log
from tests.clients.crashing import STEPS, text
from tests.service import inherited
from turnlog import FlushReport, Turnlog

pytestmark = pytest.mark.faults

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60


def start(*command: str, **environment: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT / "clients/python/src"), str(ROOT)])
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env=inherited() | {"PYTHONPATH": paths, **environment},
    )  # fmt: skip


def run(program: str, *arguments: str) -> tuple[int, list[str]]:
    """Run a program of a few lines; return its exit code, and the lines that it printed."""
    process = start("-c", textwrap.dedent(program), *arguments)
    printed, _ = process.communicate(timeout=WAIT_S)
    return process.returncode, printed.split()


def deliver(log_service: Log, spool: Path) -> FlushReport:
    """Be the next process: send what earlier ones left."""
    with Turnlog(log_service.url, spool=spool) as log:
        report = log.flush(WAIT_S)
    assert (report.waiting, report.rejected, report.conflict, report.lost) == (0, 0, 0, 0)
    assert list(spool.glob("*.spool")) == []
    return report


def check_stored(log_service: Log, session: str, acknowledged: list[str], response: bool = True) -> None:
    rows = log_service.transcript(session)
    stored = {row["key"]: row for row in rows}
    assert len(stored) == len(rows), "one row an id"
    assert set(acknowledged) <= stored.keys()
    for name in acknowledged:
        assert stored[name]["prompt"] == name
        assert not response or (stored[name]["response"], stored[name]["status"]) == (text(name), "completed")


@pytest.mark.parametrize("step", [f"{when}-{step}" for step in STEPS for when in ("before", "after")])
def test_killed_at_any_step_nothing_acknowledged_is_lost(log_service: Log, tmp_path: Path, step: str) -> None:
    acknowledged: list[str] = []
    killed = 0
    for nth in (1, 2, 5):
        process = start("-m", "tests.clients.crashing", log_service.url, str(tmp_path / "spool"), step, str(nth), "30")
        printed, _ = process.communicate(timeout=WAIT_S)
        killed += process.returncode == -signal.SIGKILL
        acknowledged += printed.split()
    assert killed > 0, "the step comes"
    deliver(log_service, tmp_path / "spool")
    check_stored(log_service, "crashes", acknowledged)


PROGRAM = """
    import os, sys
    from tests.clients.crashing import log_turns, text
    from turnlog import Turnlog
    log = Turnlog(sys.argv[1], spool=sys.argv[2])
"""


def test_ten_thousand_turns_of_a_script_that_ends_at_once(log_service: Log, tmp_path: Path) -> None:
    program = """
        import sys, time
        from turnlog import Turnlog
        log = Turnlog(sys.argv[1], spool=sys.argv[2])
        chat = log.session("script", user_id="ada")
        for number in range(10_000):
            chat.log(prompt=str(number), response=f"answer {number}", interaction_id=f"turn-{number}")
    """
    code, _ = run(program, log_service.url, str(tmp_path))
    assert code == 0
    deliver(log_service, tmp_path)
    rows = log_service.transcript("script")
    assert len(rows) == 10_000
    assert {(row["key"], row["prompt"], row["response"]) for row in rows} == {
        (f"turn-{number}", str(number), f"answer {number}") for number in range(10_000)
    }


def test_the_end_of_a_program_costs_a_second_at_most(tmp_path: Path) -> None:
    program = """
        import sys
        from turnlog import Turnlog
        log = Turnlog("http://10.255.255.1:9", spool=sys.argv[1])  # nobody answers, not even with a refusal
        log.session("chat").log(prompt="Q", response="A")
        turn = log.session("chat").turn(prompt="left open")
        turn.append("Half")
        import atexit, time
        began = time.monotonic()
        atexit._run_exitfuncs()
        print(time.monotonic() - began)
    """
    code, printed = run(program, str(tmp_path))
    assert code == 0
    assert float(printed[0]) < 1.2
    (path,) = tmp_path.glob("*.spool")
    assert '"status":"abandoned","response":"Half"' in path.read_text()


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), 15)", "os.abort()"])
def test_ends_that_run_no_exit_handlers(log_service: Log, tmp_path: Path, end: str) -> None:
    name = f"end{len(end)}"
    _, printed = run(f'{PROGRAM}\n    log_turns(log, "{name}", 50)\n    {end}', log_service.url, str(tmp_path))
    assert len(printed) == 50
    deliver(log_service, tmp_path)
    check_stored(log_service, "crashes", printed)


def test_two_processes_on_one_spool(log_service: Log, tmp_path: Path) -> None:
    program = textwrap.dedent(PROGRAM + "    log_turns(log, sys.argv[3], 500)\n    log.flush(30)\n    log.close(10)")
    processes = [start("-c", program, log_service.url, str(tmp_path), f"of-{name}") for name in ("one", "two")]
    printed = [process.communicate(timeout=WAIT_S)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert [len(each) for each in printed] == [500, 500]
    deliver(log_service, tmp_path)
    check_stored(log_service, "crashes", [*printed[0], *printed[1]])


def test_a_survivor_adopts_what_another_left_while_both_ran(log_service: Log, tmp_path: Path) -> None:
    program = textwrap.dedent(PROGRAM + '    log_turns(log, "killed", 200)\n    os.kill(os.getpid(), 9)')
    killed = start("-c", program, "http://127.0.0.1:9", str(tmp_path))
    with Turnlog(log_service.url, spool=tmp_path) as survivor:
        survivor.session("crashes").log(prompt="survivor", interaction_id="survivor")
        printed = killed.communicate(timeout=WAIT_S)[0].split()
        assert survivor.flush(WAIT_S).adopted > 0
        check_stored(log_service, "crashes", printed)


def test_a_process_that_was_frozen_goes_on(log_service: Log, tmp_path: Path) -> None:
    """Freeze it as a function that isn't called: its connection is stale, and its clock has gone on."""
    program = textwrap.dedent(
        PROGRAM + '    log_turns(log, "frozen", 100)\n    print("go", flush=True)\n    import time; time.sleep(1)\n'
        '    log_turns(log, "thawed", 100)\n    assert log.flush(30).complete'
    )
    process = start("-c", program, log_service.url, str(tmp_path))
    assert process.stdout is not None
    printed = []
    while (line := process.stdout.readline().strip()) != "go":
        printed.append(line)
    process.send_signal(signal.SIGSTOP)
    time.sleep(5)  # more than the service keeps idle connections
    process.send_signal(signal.SIGCONT)
    printed += process.communicate(timeout=WAIT_S)[0].split()
    assert process.returncode == 0
    check_stored(log_service, "crashes", printed)


APPLICATION = """
    import os
    from tests.clients.crashing import text
    from turnlog import Turnlog

    log = Turnlog(os.environ["LOG_URL"], spool=os.environ["LOG_SPOOL"])
    chat = log.session("gunicorn", user_id="ada")
    chat.log(prompt="preloaded", response=text("preloaded"), interaction_id="preloaded")

    def app(environ, start_response):
        name = environ["PATH_INFO"][1:]
        if name == "crash":
            os._exit(1)
        with chat.turn(prompt=name, interaction_id=name) as turn:
            turn.append(text(name))
            turn.complete()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [str(os.getpid()).encode() if turn.receipt.durable else b""]
"""


def test_four_preloaded_workers_of_gunicorn(log_service: Log, tmp_path: Path) -> None:
    (tmp_path / "application.py").write_text(textwrap.dedent(APPLICATION))
    address, spool = tmp_path / "socket", tmp_path / "spool"
    (tmp_path / "settings.py").write_text("")
    process = start(
        "-m", "gunicorn", "--config", str(tmp_path / "settings.py"), "--preload", "--workers", "4",
        "--chdir", str(tmp_path), "--bind", f"unix:{address}", "--graceful-timeout", "10", "application:app",
        LOG_URL=log_service.url, LOG_SPOOL=str(spool),
    )  # fmt: skip

    def call(name: str) -> tuple[str, str]:
        with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
            connection.settimeout(30)
            connection.connect(str(address))
            connection.sendall(f"GET /{name} HTTP/1.0\r\n\r\n".encode())
            with connection.makefile("rb") as answer:
                head, _, body = answer.read().partition(b"\r\n\r\n")
            return name, body.decode() if b" 200 " in head else ""
        return name, ""

    try:
        deadline = time.monotonic() + WAIT_S
        while not call("first")[1]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        names = [f"request-{number}" for number in range(400)]
        names[150] = names[250] = "crash"
        with ThreadPoolExecutor(8) as pool:
            answers = dict(pool.map(call, names))
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_S)
    acknowledged = [name for name, pid in answers.items() if pid]
    assert len(set(answers.values()) - {""}) >= 4, "all workers served"
    assert len(acknowledged) > 300
    deliver(log_service, spool)
    check_stored(log_service, "gunicorn", ["preloaded", *acknowledged])


def test_a_service_that_is_away_for_a_while(log_service: Log, tmp_path: Path) -> None:
    """Some seconds stand for an hour: nothing of the client depends on how long it takes."""
    os.killpg(log_service.service.pid, signal.SIGSTOP)
    try:
        with Turnlog(log_service.url, spool=tmp_path, timeout=1) as log:
            for number in range(1000):
                name = f"away-{number}"
                log.session("away").log(prompt=name, response=text(name), interaction_id=name)
            assert log.flush(2).waiting > 0
    finally:
        os.killpg(log_service.service.pid, signal.SIGCONT)
    deliver(log_service, tmp_path)
    check_stored(log_service, "away", [f"away-{number}" for number in range(1000)])
