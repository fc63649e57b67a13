"""A call that runs once at a time: whoever asks meanwhile waits for the one that runs, and shares its result."""

import copy
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class SharedCall(Generic[_Result]):
    """Calls `call`, which takes no arguments and returns in bounded time. Safe to use from any thread."""

    def __init__(self, call: Callable[[], _Result]) -> None:
        self._call = call
        self._lock = threading.Lock()
        self._running: Future[_Result] | None = None

    def __call__(self) -> _Result:
        with self._lock:
            running, leads = self._running, self._running is None
            if running is None:
                running = self._running = Future()
        if leads:
            self._run(running)
        if error := running.exception():
            raise copy.copy(error) from error  # a copy, since several threads raise the same error
        return running.result()

    def _run(self, running: Future[_Result]) -> None:
        try:
            running.set_result(self._call())
        except BaseException as error:
            running.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                self._running = None
