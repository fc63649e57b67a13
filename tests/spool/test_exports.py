"""Exported traces while the store is away: taken, and delivered afterwards."""

import pytest
from flask.testing import FlaskClient

from logging_store.errors import StoreUnavailable
from logging_store.spool import Spool
from tests.http_calls import transcript
from tests.otlp.builders import Sent, chat, traces
from tests.spool.conftest import delivered
from tests.spool.flaky_store import FlakyStore


@pytest.mark.parametrize("times", [1, 2])
def test_an_export_is_spooled_and_answers_as_if_stored(
    client: FlaskClient, spool: Spool, inner: FlakyStore, times: int
) -> None:
    body = traces(Sent(attributes=chat(session__id="s", user__id="ada")))
    inner.away = StoreUnavailable("nobody answers")
    for _ in range(times):
        answer = client.post("/v1/traces", data=body, content_type="application/x-protobuf")
        assert (answer.status_code, answer.data) == (200, b"")
    inner.away = None
    delivered(spool)
    (turn,) = transcript(client, "s")
    assert (turn["response"], client.get("/v1/sessions/s").get_json()["user_id"]) == ("Lima.", "ada")
