"""What callers read about wrong values is in our words: for every field of every model that callers fill."""

import json
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
from flask.testing import FlaskClient
from pydantic import AfterValidator, BaseModel, TypeAdapter, ValidationError
from pydantic_core import core_schema
from werkzeug.datastructures import MultiDict

from app import create_app
from conversation.api import pagination, requests
from conversation.api.sessions import SessionWithParticipants
from conversation.refusals import near_misses, validation_messages
from conversation.settings import Settings
from logging_store.errors import StoreUnavailable
from logging_store.records.models import Interaction
from tests.api.test_problems import FailingStore
from tests.http_calls import KEYLESS, problem

#: How pydantic and Werkzeug speak.
FOREIGN = re.compile(
    r"input|\bvalid\b|value error|field required|after validation|permitted|unable to|parsing|instance|dictionary"
    r"|\bint\b|\bstr\b|\bbool\b|requested URL|browser \(or proxy\)",
    re.IGNORECASE,
)
WRONG: list[Any] = [
    None, True, 0, -1, 1, 1.5, 2**70, -1e300, float("inf"), "", " ", "x", "one", "2026-11-21", "2026-02-30", "null",
    "1764000000", "x" * 20_000, "a\0b", "\ud800", [], [None], ["x", "x"], [[]], ["x"] * 2000, {}, {"a": None}, {"": 1},
    {str(n): n for n in range(200)}, [{}], [{"role": 1}],
]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> FlaskClient:
    return create_app(Settings.from_mapping(KEYLESS), FailingStore(StoreUnavailable())).test_client()


def models(client: FlaskClient, kind: str) -> list[type[BaseModel]]:
    """Return the models of all bodies, or of all query strings ("request" or "query")."""
    app = client.application
    described = (getattr(view, "description", None) for view in app.view_functions.values())
    found = {getattr(each, kind) for each in described if each} - {None}
    return sorted(found, key=lambda model: str(model.__name__))


def refusals(model: type[BaseModel], value: dict[str, Any]) -> list[dict[str, str]]:
    try:
        requests.validate(model, value)
    except requests.InvalidBody as error:
        return error.fields
    return []


def test_no_field_of_a_body_is_refused_in_pydantics_words(client: FlaskClient) -> None:
    tried, said = 0, set()
    for model in models(client, "request"):
        for name in validation_messages.names_of(model):
            for value in WRONG:
                fields = refusals(model, {name: value})
                said |= {field["detail"] for field in fields}
                tried += any(name in field["path"] for field in fields)
        said |= {field["detail"] for value in WRONG for field in refusals(model, {"nonsense": value})}
    assert tried > 1000
    assert [sentence for sentence in said if FOREIGN.search(sentence)] == []
    assert [sentence for sentence in said if not re.match(r"[A-Z]", sentence) or sentence.endswith(".")] == []


def test_no_parameter_is_refused_in_pydantics_words(client: FlaskClient) -> None:
    said = set()
    for model in models(client, "query"):
        for name in [*validation_messages.names_of(model), "nonsense"]:
            for value in WRONG:
                try:
                    pagination.parse(MultiDict({name: value if isinstance(value, str) else repr(value)}), model)
                except requests.InvalidBody as error:
                    said |= {field["detail"] for field in error.fields}
    assert len(said) > 20
    assert [sentence for sentence in said if FOREIGN.search(sentence)] == []


def test_objects_within_objects_are_described_as_well() -> None:
    within = {
        "participants": [{"participant": value, "role": value, "state": value, "nonsense": value} for value in WRONG]
    }
    said = {field["detail"] for field in refusals(SessionWithParticipants, within)}
    assert "Unknown field `nonsense`; this call takes `participant`, `role`, `state`" in said
    assert [sentence for sentence in said if FOREIGN.search(sentence)] == []


@pytest.mark.parametrize("kind", get_args(core_schema.ErrorType))
def test_every_kind_of_error_that_pydantic_knows_has_a_sentence(kind: Any) -> None:
    details: Any = {"type": kind, "loc": ("prompt",), "msg": "Input should be valid", "input": 1, "ctx": NUMBERS}
    assert not FOREIGN.search(validation_messages.sentence(details, Interaction))


NUMBERS: dict[str, Any] = defaultdict(lambda: 1, error="must be so")


STATUSES = "pending, completed, failed, abandoned"


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        ({"turn": "one"}, '`turn` must be a whole number, not the text "one"'),
        ({"turn": 1.5}, "`turn` must be a whole number, not 1.5"),
        ({"turn": ""}, "`turn` must be a whole number, not an empty text"),
        ({"turn": "what somebody said"}, "`turn` must be a whole number, not a text"),
        ({"turn": -1}, "`turn` must be 0 or more"),
        ({"turn": 2**60}, "`turn` must be 9007199254740992 (2^53) or less"),
        ({"session_id": 42.0}, "`session_id` must be a text or a whole number, not 42.0"),
        ({"session_id": True}, "`session_id` must be a text or a whole number, not true"),
        ({"participant": ["x"]}, "`participant` must be a text or a whole number, not a list"),
        ({"reply_to": "a\ud83d"}, "`reply_to` must be Unicode text; half of a surrogate pair can't be stored"),
        ({"cost_usd": "a lot"}, "`cost_usd` must be a number, not a text"),
        ({"tags": "t"}, "`tags` must be a list, not a text"),
        ({"metadata": "m"}, "`metadata` must be an object, not a text"),
        ({"model": "x" * 300}, "`model` may have 200 characters at most; it has 300"),
        ({"tags": [str(n) for n in range(101)]}, "`tags` may have 100 items at most; it has 101"),
        ({"status": "complete"}, f"`status` must be one of {STATUSES}. Did you mean completed?"),
        ({"status": "fine"}, f"`status` must be one of {STATUSES}"),
        ({"promt": "x"}, "Unknown field `promt`. Did you mean `prompt`?"),
        ({"sessionId": "x"}, "Unknown field `sessionId`. Did you mean `session_id`? Field names are in snake_case."),
        ({"user_input": "x"}, "Unknown field `user_input`. Did you mean `prompt`?"),
        ({"aiResponse": "x"}, "Unknown field `aiResponse`. Did you mean `response`?"),
        ({"id": "x"}, "Unknown field `id`. Did you mean `interaction_id`?"),
        ({"tokens_used": 1}, "Unknown field `tokens_used`. Send `input_tokens` and `output_tokens`, not their sum."),
        ({"user_id": "ada"}, "Unknown field `user_id`. A session has it: POST /v1/sessions takes `user_id`."),
        ({"zzz": 1}, "Unknown field `zzz`"),
        ({"zzz": 1, "turn": -1}, "Unknown field `zzz` (1 more in `fields`)"),
        ({"started_at": "1764000000"},
         "`started_at` looks like Unix time; send it as a number, or as 2025-11-24T16:00:00Z"),
        ({"started_at": "2026-11-21T06:30:00"},
         ("`started_at` must have a zone, as in 2026-11-21T06:30:00Z; add Z if it is UTC, or leave started_at out: "
          "the service knows when the record arrived")),
        ({"started_at": "2026-11-21"}, "`started_at` must have a time and a zone as well, as in 2026-11-21T06:30:00Z"),
        ({"session_id": "undefined"}, "`session_id` looks like a missing id converted to text; leave it out instead"),
    ],
)  # fmt: skip
def test_a_problem_says_what_is_wrong(client: FlaskClient, record: dict[str, Any], detail: str) -> None:
    body = json.dumps({"prompt": "Hello"} | record)
    answer = client.post("/v1/interactions", data=body, content_type="application/json")
    assert problem(answer, 422)["detail"] == detail


def test_what_is_missing_under_another_name_is_named(client: FlaskClient) -> None:
    answer = client.post("/v1/interactions/batch", json={"items": []})
    assert problem(answer, 422)["detail"] == "Unknown field `items`. Did you mean `interactions`? (1 more in `fields`)"


def test_a_list_in_the_place_of_an_object_is_told_where_lists_go(client: FlaskClient) -> None:
    single, batch = (client.post(f"/v1/interactions{path}", json=[{"prompt": "x"}]) for path in ("", "/batch"))
    assert 'POST /v1/interactions/batch as {"interactions": […]}' in problem(single, 422)["detail"]
    assert (
        problem(batch, 422)["detail"]
        == 'The body must be an object, not a list. Send the list as {"interactions": […]}'
    )


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("user=ada", "Unknown parameter `user`. Did you mean `user_id`?"),
        ("userId=ada", "Unknown parameter `userId`. Did you mean `user_id`? Parameter names are in snake_case."),
        ("page=2", "Unknown parameter `page`. Did you mean `cursor`?"),
        ("status=opne", "`status` must be one of locked, open, closed. Did you mean open?"),
        ("limit=many", "`limit` must be a whole number from 1 to 1000"),
        ("limit=1&limit=2", "`limit` must be given only once"),
        ("from=2026-11-21T06:30:00", "`from` must have a zone, as in 2026-11-21T06:30:00Z; add Z if it is UTC"),
    ],
)
def test_a_problem_says_what_is_wrong_with_a_parameter(client: FlaskClient, query: str, detail: str) -> None:
    assert problem(client.get(f"/v1/sessions?{query}"), 422)["detail"] == detail


@pytest.mark.parametrize("text", ["1764000000", "1764000000000", "1764000000.0", "2025-11-24T17:00:00+01:00"])
def test_a_time_of_a_query_may_be_unix_time(text: str) -> None:
    asked = pagination.parse(MultiDict({"from": text}), pagination.SessionQuery)
    assert asked.to_json()["from"] == "2025-11-24T16:00:00Z"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{'prompt': 'x'}", "use double quotes"),
        ("{prompt: 1}", "use double quotes"),
        ("{\"prompt\": 'x'}", "use double quotes"),
        ('{"prompt": None}', "JSON writes null, true and false"),
        ('{"prompt": "x",\n "turn": NaN}', "JSON writes null, true and false"),
        ('{"prompt": undefined}', "JSON writes null, true and false"),
        ('{"prompt": "x",}', "trailing comma at line 1 column 16"),
        ("\n\n", "EOF"),
    ],
)
def test_what_is_no_json_is_explained(client: FlaskClient, text: str, said: str) -> None:
    told = problem(client.post("/v1/interactions", data=text, content_type="application/json"), 400)
    assert told["code"] == "invalid-json"
    assert told["detail"].startswith("The body is not valid JSON: ")
    assert said in told["detail"]


def test_long_names_are_not_repeated_whole() -> None:
    assert near_misses.unknown("x" * 10_000, ["prompt"]).count("x") == 60


def test_a_validator_that_raises_a_value_error_speaks_for_itself() -> None:
    def refuse(_: object) -> object:
        raise ValueError("must be kind")

    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Annotated[str, AfterValidator(refuse)]).validate_python("x")
    (error,) = caught.value.errors()
    assert validation_messages.sentence(error, Interaction) == "Must be kind"


def test_a_body_full_of_unknown_names_costs_little(client: FlaskClient) -> None:
    started = time.process_time()
    names = {f"promt{n}": 1 for n in range(100_000)}
    fields = problem(client.post("/v1/interactions", json=names), 422)["fields"]
    assert len(fields) == 20
    assert fields[-1] == {"path": "$", "detail": "There are 99,981 more wrong fields"}
    assert time.process_time() - started < 10  # looked for each time, it took more than a minute


def test_the_first_twenty_mistakes_of_a_batch_are_explained_and_the_others_counted(client: FlaskClient) -> None:
    receipts = client.post(
        "/v1/interactions/batch?dry_run=true", json={"interactions": [{"promt": "x"}] * 1000}
    ).get_json()
    told = [item["fields"][0]["detail"] for item in receipts["plan"]]
    explained, counted = "Unknown field `promt`. Did you mean `prompt`?", "There is 1 wrong field"
    assert told == [explained] * 20 + [counted] * 980


def test_a_batch_full_of_unknown_names_has_a_short_answer(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    items = [{f"promt{n}": 1 for n in range(300)}] * 30
    with caplog.at_level("INFO", "turnlog.batch"):
        answer = client.post("/v1/interactions/batch", json={"interactions": items})
    listed = [len(item["fields"]) for item in answer.get_json()["receipts"]]
    assert listed == [20] + [1] * 29
    assert answer.get_json()["receipts"][-1]["fields"] == [
        {"path": "$.interactions[29]", "detail": "There are 300 wrong fields"}
    ]
    (line,) = (record.getMessage() for record in caplog.records if record.name == "turnlog.batch")
    problems = json.loads(line)["problems"]
    assert [len(each["fields"]) for each in problems] == [10, 1, 1]


def test_wrong_values_are_compared_a_limited_number_of_times() -> None:
    look_ups = validation_messages.LookUps()
    said = []
    for n in range(200):
        with pytest.raises(ValidationError) as caught:
            Interaction.model_validate({"session_id": "s", "interaction_id": "i", "status": f"completed{n}"})
        (error,) = caught.value.errors()
        said.append(validation_messages.sentence(error, Interaction, look_ups=look_ups))
    assert sum("Did you mean" in sentence for sentence in said) == 100


def test_a_long_duplicate_key_is_not_repeated_whole(client: FlaskClient) -> None:
    key = "q" * 500
    body = f'{{"{key}": 1, "{key}": 2}}'
    detail = problem(client.post("/v1/interactions", data=body, content_type="application/json"), 400)["detail"]
    assert detail.count("q") == 60


def test_no_other_module_uses_pydantics_own_words() -> None:
    own = re.compile(r"""\[["']msg["']\]""")
    root = Path(__file__).parents[2] / "conversation"
    users = {path.name for path in root.rglob("*.py") if own.search(path.read_text())}
    assert users == {"validation_messages.py"}
