"""A program that logs and is killed at a given step: `python -m tests.clients.crashing URL SPOOL STEP NTH TURNS`.

It prints the name of each turn, once the call that logs it has returned and its receipt says that it is durable.
"""

import fcntl
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from turnlog import Turnlog, spool
from turnlog.core import Core
from turnlog.transport import HttpTransport

#: The steps on the way of a record: what is called then.
STEPS: dict[str, tuple[Any, str]] = {
    "lock": (fcntl, "flock"),
    "begin": (spool.Spool, "_begin"),
    "write": (os, "pwrite"),
    "put": (spool.Spool, "put"),
    "sync": (os, "fsync"),
    "take": (spool.Spool, "take"),
    "send": (HttpTransport, "post"),
    "settle": (Core, "_settle"),
    "ack": (spool.Spool, "ack"),
    "empty": (os, "ftruncate"),
    "remove": (spool.Spool, "_remove"),
    "close": (spool.Spool, "close"),
}


def kill_at(step: str, nth: int) -> None:
    """Kill this process when a step begins (`before-…`) or has ended (`after-…`) for the nth time."""
    when, _, name = step.partition("-")
    owner, attribute = STEPS[name]
    real: Callable[..., Any] = getattr(owner, attribute)
    left = [nth]

    def stepping(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if when == "before" and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **options)
        if when == "after" and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, attribute, stepping)


def text(name: str) -> str:
    return f"answer to {name} \N{SNOWMAN} " + "\n".join([name] * 20)


def log_turns(log: Turnlog, prefix: str, turns: int) -> None:
    chat = log.session("crashes", user_id="ada")
    for number in range(turns):
        name = f"{prefix}-{number}"
        if number % 2:
            receipt = chat.log(prompt=name, response=text(name), interaction_id=name)
        else:
            with chat.turn(prompt=name, interaction_id=name) as turn:
                turn.append(text(name))
                receipt = turn.complete()
        if number % 5 == 0:
            log.sync()
        if receipt.durable:
            os.write(1, f"{name}\n".encode())


if __name__ == "__main__":
    url, folder, step, nth, turns = sys.argv[1:]
    kill_at(step, int(nth))
    log = Turnlog(url, spool=folder)
    log_turns(log, f"{step}-{nth}", int(turns))
    log.close(10)
