"""What clients may expect of every single answer while faults happen."""

import time
from concurrent.futures import ThreadPoolExecutor

from tests.faults.clients import connection
from tests.faults.lag import Lag
from tests.faults.scene import Scene

GRACE_S = 1.0  # an answer is there a second after the deadline
_AT_ONCE = 32  # as many as two workers have threads
_QUICK_S = 5  # a thread that somebody keeps waiting is not free for longer than that


def assert_none_refused(scene: Scene) -> None:
    """Expect every write to have been answered, and acknowledged: 503 is for a spool that is full."""
    refused = {status: count for status, count in scene.history.statuses().items() if status not in {200, 201, 202}}
    assert not refused, f"writes that were not acknowledged, by status (0 is no answer): {refused}"


def assert_answered_in_time(scene: Scene, deadline_s: float, lag: Lag) -> None:
    """Expect each answer by the deadline and a second, and what this machine is late: at both ends of the call."""
    bound = deadline_s + GRACE_S + 2 * lag.worst_s
    late = sorted((call for call in scene.history.calls if call.seconds > bound), key=lambda call: -call.seconds)
    assert not late, f"{len(late)} answers took longer than {bound:.2f} s, the longest: {late[:3]}"


def assert_all_threads_free(scene: Scene) -> None:
    """Expect as many reads at once as the service has threads to be answered quickly."""

    def read(_: int) -> int:
        with connection(scene.service.url) as http:
            return http.get("/v1/sessions", params={"limit": 1}).status_code

    with Lag() as lag, ThreadPoolExecutor(_AT_ONCE) as threads:
        began = time.monotonic()
        statuses = list(threads.map(read, range(_AT_ONCE)))
        seconds = time.monotonic() - began
    assert statuses == [200] * _AT_ONCE
    assert seconds < _QUICK_S + 2 * lag.worst_s, f"{_AT_ONCE} reads at once took {seconds:.2f} s"
