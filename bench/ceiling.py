"""The most that this gunicorn with this Flask can answer.

One view: it reads nothing of the request, has no database, and answers a constant as JSON, of Turnlog's size.
"""

from flask import Flask, Response, jsonify

_SESSION, _INTERACTION = "0199d3f0-0000-7000-8000-000000000001", "0199d3f0-0000-7000-8000-000000000002"


def create_app() -> Flask:
    app = Flask(__name__)

    @app.post("/log")
    def log() -> tuple[Response, int]:
        answer = {"session_id": _SESSION, "session_key": None, "interaction_id": _INTERACTION, "interaction_key": None}
        return jsonify(answer | {"receipt": "created", "fields": []}), 201

    @app.get("/readyz")
    def readyz() -> Response:
        return jsonify(status="nothing is ever written")

    return app
