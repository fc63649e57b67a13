"""Whether a port can be had, before anything is prepared to listen on it."""

import errno
import socket
import time
from collections.abc import Callable

from logging_store.errors import TurnlogError

_WAIT_S = 5.0  # the workers of a killed service let go of their port within seconds


def require_free(host: str, port: int, waiting: Callable[[str], None], wait_s: float = _WAIT_S) -> None:
    """Return once a port can be listened on. Raises `TurnlogError` if another program keeps it for `wait_s` seconds.

    `waiting` is called once with a sentence if it can't be had at once.
    """
    give_up = time.monotonic() + wait_s
    is_told = False
    while error := _refusal(host, port):
        if error.errno != errno.EADDRINUSE:
            raise TurnlogError(f"can't listen on {host}, port {port}: {error.strerror}")
        if time.monotonic() > give_up:
            raise TurnlogError(
                f"port {port} is in use by another program: stop that, or choose another port with PORT={port + 1}"
            )
        if not is_told:
            is_told = True
            waiting(f"port {port} is in use; trying for {wait_s:.0f} seconds whether it becomes free")
        time.sleep(0.1)


def _refusal(host: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
