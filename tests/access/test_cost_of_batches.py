"""What a page's batch may cost: items of one interaction are compared with each other, one after the other."""

from typing import Any

import pytest

from tests.access.conftest import Calls
from tests.http_calls import problem

REPEATS = 200


@pytest.fixture
def token(browser: Calls) -> str:
    token: str = browser.open_session(session_id="chat-1").get_json()["session_token"]
    return token


def batch(length: int) -> dict[str, Any]:
    """Return a small batch whose items all speak of one interaction with a text of some length."""
    item = {"session_id": "chat-1", "interaction_id": "turn"}
    return {"interactions": [item | {"prompt": "x" * length}, *[item | {"latency_ms": 1}] * (REPEATS - 1)]}


def test_a_page_may_not_have_much_compared_and_a_backend_may(browser: Calls, backend_calls: Calls, token: str) -> None:
    path, headers = "/v1/interactions/batch", {"Turnlog_Session_Token": token}
    refused = browser("POST", path, batch(16_200_000 // REPEATS), **headers)
    assert problem(refused, 413)["detail"].startswith("Items of one interaction are compared")
    assert backend_calls("GET", "/v1/sessions/chat-1/interactions").get_json()["interactions"] == []
    assert browser("POST", path, batch(15_000_000 // REPEATS), **headers).status_code == 200
    assert backend_calls("POST", path, batch(16_200_000 // REPEATS)).status_code == 207


def test_a_dry_run_of_a_page_may_cost_a_quarter_of_it(browser: Calls, backend_calls: Calls, token: str) -> None:
    path, headers = "/v1/interactions/batch?dry_run=true", {"Turnlog_Session_Token": token}
    assert problem(browser("POST", path, batch(4_200_000 // REPEATS), **headers), 413)["code"] == "too-large"
    assert browser("POST", path, batch(3_000_000 // REPEATS), **headers).status_code == 200
    assert backend_calls("POST", path, batch(4_200_000 // REPEATS)).status_code == 200


def test_many_items_of_many_interactions_are_no_repeats(browser: Calls, token: str) -> None:
    said = [{"session_id": "chat-1", "interaction_id": f"{n}", "prompt": "x" * 20_000} for n in range(100)]
    answer = browser("POST", "/v1/interactions/batch", {"interactions": said}, Turnlog_Session_Token=token)
    assert answer.get_json()["counts"] == {"created": 100}
