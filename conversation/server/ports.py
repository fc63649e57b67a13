"""Checks that a port is free before the service prepares to listen on it."""

import errno
import socket
import time
from collections.abc import Callable

from logging_store.errors import TurnlogError

_WAIT_S = 5.0  # the workers of a killed service let go of their port within seconds


def require_free(host: str, port: int, waiting: Callable[[str], None], wait_s: float = _WAIT_S) -> None:
    """Return once a port is free. Raises `TurnlogError` if another program still uses it after `wait_s` seconds.

    `waiting` is called once, with a sentence for the operator, if the port isn't free at once.
    """
    give_up = time.monotonic() + wait_s
    has_warned = False
    while error := _bind_error(host, port):
        if error.errno != errno.EADDRINUSE:
            raise TurnlogError(f"can't listen on {host}, port {port}: {error.strerror}")
        if time.monotonic() > give_up:
            raise TurnlogError(
                f"port {port} is in use by another program: stop that, or choose another port with PORT={port + 1}"
            )
        if not has_warned:
            has_warned = True
            waiting(f"port {port} is in use; waiting up to {wait_s:.0f} seconds for it to become free")
        time.sleep(0.1)


def _bind_error(host: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gunicorn does
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
