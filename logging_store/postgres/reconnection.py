"""Waits while Supabase's API reconnects to its database.

PostgREST looks for its database with pauses that double: after all its connections ended it answered again after 0.8 to
32 seconds, and meanwhile it refuses every call at once.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from logging_store.errors import StoreReconnecting

#: Seconds that somebody who can wait should wait.
LONGEST_S = 40.0

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0

_Answer = TypeVar("_Answer")


def until_reconnected(
    call: Callable[[], _Answer], give_up: float, on_wait: Callable[[StoreReconnecting], None] = lambda _: None
) -> _Answer:
    """Make a call, and again with growing, jittered pauses, for as long as it raises `StoreReconnecting`.

    `give_up`: the time of the monotonic clock after which the error is raised. `on_wait`: called before a first pause.
    """
    limit = _FIRST_PAUSE_S
    while True:
        try:
            return call()
        except StoreReconnecting as error:
            pause = limit * random.uniform(0.5, 1)  # noqa: S311 - jitter, not a secret
            if time.monotonic() + pause >= give_up:
                raise
            if limit == _FIRST_PAUSE_S:
                on_wait(error)
        time.sleep(pause)
        limit = min(2 * limit, _LONGEST_PAUSE_S)
