"""The contract is true: whatever it allows is answered as it says, and whatever it forbids is refused."""

import re

import pytest
from flask.testing import FlaskClient

from app import create_app
from conversation.settings import Settings
from tests.conftest import Backend

#: OTLP has a specification of its own.
_NOT_OF_THE_API = {"openapi", "swagger_ui", "metrics", "browser_client", "bootstrap", "errors", "otlp"}
_KEY = "correct horse battery staple"


@pytest.mark.slow
@pytest.mark.timeout(900)  # some thousand calls, on a busy machine
def test_the_api_keeps_its_contract(client: FlaskClient, backend: Backend) -> None:
    from tests.api import contract  # noqa: PLC0415 - no process that only collects tests waits for it

    # boundaries are judged before a store is asked, so they are walked over one store only
    found = contract.failures(contract.of(client.application, systematic=backend.name == "postgres"))
    assert not found, "\n\n".join(found)  # whole, since another process may try other values


def test_every_route_is_described() -> None:
    app = create_app(Settings.from_mapping({"TURNLOG_KEYLESS": "true"}))
    paths = app.test_client().get("/openapi.json").get_json()["paths"]
    described = {(path, method.upper()) for path, methods in paths.items() for method in methods}
    routes = {
        (re.sub(r"<name:(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint.partition(".")[0] not in _NOT_OF_THE_API
        and not rule.endpoint.startswith("pages_")  # those are HTML, for people
    }
    assert described == routes


def test_the_contract_has_every_schema_that_it_refers_to() -> None:
    app = create_app(Settings.from_mapping({"TURNLOG_KEYLESS": "true"}))
    contract = app.test_client().get("/openapi.json")
    referred = re.findall(r'"\$ref":"#/components/schemas/(\w+)"', contract.text)
    assert referred
    assert set(referred) <= contract.get_json()["components"]["schemas"].keys()


def test_a_key_is_part_of_the_contract_where_there_is_one() -> None:
    with_key = (
        create_app(Settings.from_mapping({"TURNLOG_API_KEY": _KEY})).test_client().get("/openapi.json").get_json()
    )
    without = (
        create_app(Settings.from_mapping({"TURNLOG_KEYLESS": "true"})).test_client().get("/openapi.json").get_json()
    )
    assert with_key["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, methods in with_key["paths"].items():
        asks_for_key = path not in {"/livez", "/readyz"}
        for name, operation in methods.items():
            assert (operation.get("security") == [{"key": []}]) == asks_for_key
            assert ("401" in operation["responses"]) == asks_for_key
            assert "security" not in without["paths"][path][name]
            assert ("403" in without["paths"][path][name]["responses"]) == asks_for_key
