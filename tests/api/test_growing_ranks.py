"""Facts of an answer come from the furthest record that has them, in whichever order an answer's records arrive."""

from itertools import permutations
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.test_growing_answers import stored, tell

SHORT = {"response": "Once", "latency_ms": 1, "model": "m"}
MIDDLE = {"response": "Once upon", "latency_ms": 2}
LONG = {"response": "Once upon a time", "prompt": "Tell"}
FAILED = {"error": "cut off", "latency_ms": 9, "cost_usd": 0.5, "model": "other", "input_tokens": 7}
TOKENS = {"output_tokens": 4}


@pytest.mark.parametrize("order", [*permutations((SHORT, MIDDLE, LONG))])
def test_the_furthest_answer_that_states_a_fact_has_its_say(
    client: FlaskClient, order: tuple[dict[str, Any], ...]
) -> None:
    tell(client, *order)
    row = stored(client)
    assert (row["response"], row["latency_ms"], row["model"]) == ("Once upon a time", 2, "m")


@pytest.mark.parametrize("order", [*permutations((SHORT, LONG, FAILED, TOKENS))])
def test_a_failed_attempt_fills_only_what_no_answer_states(
    client: FlaskClient, order: tuple[dict[str, Any], ...]
) -> None:
    tell(client, *order)
    row = stored(client)
    assert (row["response"], row["status"], row["latency_ms"]) == ("Once upon a time", "completed", 1)
    assert (row["model"], row["output_tokens"], row["input_tokens"]) == ("m", 4, 7)
