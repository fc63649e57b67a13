"""Tries an application's contract with all that schemathesis has, which takes most of a second to import."""

import tomllib
from pathlib import Path

import schemathesis
from flask import Flask
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.schemas import BaseSchema

_CONFIG = Path(__file__).parents[2] / "schemathesis.toml"


def of(app: Flask, *, systematic: bool) -> BaseSchema:
    """Return an app's contract, ready to be tried. `systematic`: also try every boundary of every field."""
    config = tomllib.loads(_CONFIG.read_text()) | {
        "seed": 20261121,
        # the contract can't say that a text holds no NUL
        "generation": {"max-examples": 8, "allow-x00": False},
        "phases": {"coverage": {"enabled": systematic}, "stateful": {"max-steps": 4}},
    }
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=SchemathesisConfig.from_dict(config))


def failures(schema: BaseSchema) -> list[str]:
    """Run everything that schemathesis has: boundary values, random requests, and sequences of calls."""
    found: list[str] = []
    tried = 0
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished(recorder=recorder):
                tried += len(recorder.interactions)
                found += failed_checks(recorder)
            case events.NonFatalError(value=error) | events.FatalError(exception=error):
                found.append(repr(error))
    assert tried > 50
    return found


def failed_checks(recorder: ScenarioRecorder) -> list[str]:
    return [
        f"{check.failure_info.failure}\n{check.failure_info.code_sample}\n{recorder.interactions[case].response}"
        for case, checks in recorder.checks.items()
        for check in checks
        if check.status == Status.FAILURE and check.failure_info is not None
    ]
