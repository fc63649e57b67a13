"""Stands between a caller and a server and lets nothing through when told so, as a server that hangs does."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass
class Gate:
    """A TCP address in front of another; closed, it accepts connections and keeps everything for itself."""

    connect: Callable[[], socket.socket]
    at_port: int = 0  # any that is free
    open: threading.Event = field(default_factory=threading.Event)
    _listener: socket.socket = field(init=False)
    _sockets: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.at_port))
        self.open.set()
        self._run(self._accept)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self) -> None:
        """End every connection; what is kept of them gets no further."""
        for each in self._sockets:
            with suppress(OSError):  # ended before
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):  # so says macOS when it works
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # from here on there are no new connections
        self.cut()
        self.open.set()
        for thread in self._threads:
            thread.join()
        for each in (self._listener, *self._sockets):
            each.close()

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments))
        self._threads[-1].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                ours, theirs = self._listener.accept()[0], self.connect()
                self._sockets += [ours, theirs]
                self._run(self._pass_on, ours, theirs)
                self._run(self._pass_on, theirs, ours)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.open.wait()
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
