"""A service under load, to which something happens; afterwards everything that was acknowledged has to be there."""

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conversation.settings import Settings
from logging_store.embedded.server import EmbeddedPostgres
from tests.databases import server_folder
from tests.faults import reading
from tests.faults.clients import CLIENTS, PAUSE_S, Client, Clients, connection
from tests.faults.history import History, Record
from tests.faults.oracle import judge
from tests.service import Service, launch

WORKS_AGAIN_S = 10
DRAINED_S = 30  # unless the fault lasted longer
_SHOWN = 10
_LOOK_S = 0.05


@dataclass
class Scene:
    """A running service, its database, and what its clients were told. `dice` are seeded."""

    service: Service
    database: str
    history: History
    seed: str
    dice: random.Random
    clients: int = 0  # so far

    @property
    def data_dir(self) -> Path:
        return Path(self.service.environment["DATA_DIR"])

    @property
    def spool(self) -> Path:
        return Settings.from_mapping(self.service.environment).spool_folders.root

    def load(self, *, clients: int = CLIENTS, pause_s: float = PAUSE_S) -> Clients:
        """Return clients that nobody has heard of before."""
        numbers = range(self.clients, self.clients + clients)
        self.clients += clients
        return Clients(self.service.url, self.seed, self.history, numbers, pause_s)

    def wait_for(self, acknowledged: int) -> None:
        """Return when so many more records were acknowledged: the load is really there."""
        enough, give_up = self.history.outcomes["acknowledged"] + acknowledged, time.monotonic() + DRAINED_S
        while self.history.outcomes["acknowledged"] < enough:
            assert time.monotonic() < give_up, f"hardly anything is acknowledged: {self.history.outcomes}"
            time.sleep(_LOOK_S)

    def assert_healed(self, *, drained_s: float = DRAINED_S) -> None:
        """Expect a new write to be stored, the spool to be emptied, and the oracle to find nothing wrong."""
        healed = time.monotonic()
        self._assert_stores_again(healed + WORKS_AGAIN_S)
        self.assert_drained(healed + drained_s)
        self.assert_nothing_lost()

    def assert_drained(self, give_up: float) -> None:
        while left := reading.waiting(self.spool):
            assert time.monotonic() < give_up, f"not drained in time: {left}"
            time.sleep(_LOOK_S)

    def assert_nothing_lost(self) -> None:
        wrong = [*self.history.odd, *reading.dead_letters(self.spool)]
        for seen in (reading.by_api(self.service.url), reading.by_sql(self.database)):
            wrong += judge(self.history, seen)
        told = ", ".join(f"{count} {outcome}" for outcome, count in self.history.outcomes.items())
        assert not wrong, f"{len(wrong)} wrong ({told}); the first are:\n" + "\n".join(wrong[:_SHOWN])

    def _assert_stores_again(self, give_up: float) -> None:
        """Log new interactions until one is stored, not only spooled."""
        with connection(self.service.url) as http:
            client = Client(http, self.history)
            while True:
                fresh = Record("fresh", f"fresh-{uuid.uuid4()}", ("Does it work again?", "It does."))
                client.write([fresh])
                if self.history.fates[fresh.id].created:
                    return
                assert time.monotonic() < give_up, f"no new write was stored within {WORKS_AGAIN_S} s"
                time.sleep(_LOOK_S)


@contextmanager
def scene(seed: str, database: str | None = None, **environment: str) -> Iterator[Scene]:
    """Run a service on a database (its own embedded one, if none is given) and yield it once it is ready."""
    with server_folder(on_disk=True) as folder:
        variables = {"DATA_DIR": str(folder), **environment}
        if database is not None:
            variables["DATABASE_URL"] = database
        with launch(variables) as service:
            service.wait_until_ready()
            stored_in = database or EmbeddedPostgres(folder).conninfo()
            yield Scene(service, stored_in, History(), seed, random.Random(seed))
