"""The contract, `/openapi.json`, generated from the routes and the models; `/docs` shows it.

A view declares its request and its responses with `describe`; nothing of the contract is written twice.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, current_app
from flask_swagger_ui import get_swaggerui_blueprint
from openapi_pydantic import OpenAPI
from openapi_pydantic.util import PydanticSchema, construct_open_api_with_schema_class
from pydantic import BaseModel, ValidationError
from werkzeug.routing import Rule

from conversation import access
from conversation.api import schemas
from conversation.api.route_templates import template_of
from logging_store.records import json_schema
from logging_store.records.values import MAX_NAME

_View = TypeVar("_View", bound=Callable[..., Any])
_JSON, _PROBLEM = "application/json", "application/problem+json"
LINES = "application/x-ndjson"
_PATH_PARAMETER = re.compile(r"<name:(\w+)>")
_NAMES = {
    "session": ("The session's UUID, or the caller's own key", json_schema.IDENTIFIER),
    "interaction": ("The interaction's UUID, or the caller's own key", json_schema.IDENTIFIER),
    "folder": ("The folder's UUID, or the caller's own key", json_schema.IDENTIFIER),
    "participant": ("The participant's name, as the caller sends it", json_schema.NAME),
    "user": ("The user's id, as the caller sends it", json_schema.NAME),
}

_PROBLEMS_OF_BODIES = {
    400: "Not valid JSON, or JSON that can't be stored",
    409: "The record contradicts what is stored; nothing was changed",
    413: "The body is larger than 16 MB",
    415: "The body is not JSON, or has an unknown encoding",
    422: "A field is invalid; `fields` names each",
}

_PROBLEM_SCHEMA: PydanticSchema[schemas.Problem] = PydanticSchema(schema_class=schemas.Problem)

blueprint = Blueprint("openapi", __name__)


@dataclass(frozen=True, slots=True)
class Description:
    summary: str
    request: type[BaseModel] | None
    responses: Mapping[int, type[BaseModel]]
    query: type[BaseModel] | None
    media_type: str


def describe(
    summary: str,
    request: type[BaseModel] | None,
    responses: Mapping[int, type[BaseModel]],
    *,
    query: type[BaseModel] | None = None,
    media_type: str = _JSON,
) -> Callable[[_View], _View]:
    """Declare a view's request body, query string and responses by status, for the contract."""

    def attach(view: _View) -> _View:
        view.__dict__["description"] = Description(summary, request, responses, query, media_type)
        return view

    return attach


def register(app: Flask) -> None:
    app.register_blueprint(blueprint)
    pages = get_swaggerui_blueprint("/docs", "/openapi.json", {"app_name": "Turnlog", "validatorUrl": None})
    app.register_blueprint(pages)
    for endpoint, view in app.view_functions.items():
        if endpoint.partition(".")[0] == pages.name:
            access.open_to_all(view)


@blueprint.get("/openapi.json")
@access.open_to_all
def contract() -> Response:
    app = current_app
    if "openapi_json" not in app.extensions:
        app.extensions["openapi_json"] = build(app).model_dump_json(by_alias=True, exclude_none=True)
    return Response(app.extensions["openapi_json"], mimetype=_JSON)


def build(app: Flask) -> OpenAPI:
    """Return the contract of an app's described routes; it declares a key unless the app is keyless."""
    paths: dict[str, Any] = {}
    with_key = not app.extensions["turnlog_gate"].identification.keyless
    for rule in app.url_map.iter_rules():
        description = getattr(app.view_functions[rule.endpoint], "description", None)
        if not isinstance(description, Description):
            continue
        path = template_of(rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            paths.setdefault(path, {})[method.lower()] = _operation(rule, description, with_key=with_key)
    return construct_open_api_with_schema_class(
        OpenAPI.model_validate(
            {
                "openapi": "3.1.0",
                "info": {
                    "title": "Turnlog",
                    "version": "1",
                    "description": "Logs AI conversations: the session always exists, a record is stored once, "
                    "acknowledged means kept.",
                },
                "paths": paths,
                "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}} if with_key else {},
            }
        )
    )


def _operation(rule: Rule, description: Description, *, with_key: bool) -> dict[str, Any]:
    area = rule.endpoint.partition(".")[0]
    names = _PATH_PARAMETER.findall(rule.rule)
    operation: dict[str, Any] = {
        "operationId": rule.endpoint.replace(".", "_"),
        "tags": [area],
        "summary": description.summary,
        "parameters": [
            {
                "name": name,
                "in": "path",
                "required": True,
                "schema": {"type": "string", "minLength": 1, "maxLength": MAX_NAME, **_NAMES[name][1]},
                "description": _NAMES[name][0],
            }
            for name in names
        ]
        + _query_parameters(description.query),
        "responses": {
            str(status): {
                "description": "OK",
                "content": {description.media_type: {"schema": PydanticSchema(schema_class=model)}},
            }
            for status, model in description.responses.items()
        }
        | {
            str(status): {"description": text, "content": {_PROBLEM: {"schema": _PROBLEM_SCHEMA}}}
            for status, text in sorted(_problems(area, names, description).items())
            if status not in description.responses
        },
    }
    if description.request:
        operation["requestBody"] = {
            "required": not _may_be_empty(description.request),
            "content": {_JSON: {"schema": PydanticSchema(schema_class=description.request)}},
        }
    if with_key and area != "health":
        operation["security"] = [{"key": []}]
    return operation


def _query_parameters(query: type[BaseModel] | None) -> list[dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = query.model_json_schema()["properties"] if query else {}
    return [
        {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
        for name, schema in properties.items()
    ]


def _problems(area: str, names: list[str], description: Description) -> dict[int, str]:
    problems = {503: "The store is unavailable or not set up; nothing was acknowledged"}
    if area == "health":
        return problems if schemas.Readiness in description.responses.values() else {}
    problems[401] = "The key is missing, wrong, revoked or expired"
    problems[403] = "The key may not make this call, or not from this origin"
    problems[429] = "The caller or the address is over its limit; `Retry-After` says how many seconds to wait"
    if description.query:
        problems[422] = "A filter, limit or cursor is invalid; `fields` names it"
    if description.request:
        problems |= _PROBLEMS_OF_BODIES
    if names == ["user"]:  # a user about whom nothing is stored is no error
        problems[422] = "The user id or a parameter is invalid; `fields` names it"
        return problems
    if names or description.request:
        problems[410] = "The session was erased"
    if names:
        problems[404] = f"There is no such {names[0]}"
    return problems


def _may_be_empty(model: type[BaseModel]) -> bool:
    try:
        model.model_validate({})
    except ValidationError:
        return False
    return True
