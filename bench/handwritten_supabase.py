"""The logger that people write by hand over Supabase's API, with supabase-py.

Select the session, insert it if it is missing, insert the interaction: a call of the API each, in a transaction of its
own. People write `table(...)`; the stand-in for the API has only functions, so here each of the three is a function of
one plain statement, which PostgreSQL runs as it would run the statement.
"""

import os
from typing import Any

from flask import Flask, Response, jsonify, request
from postgrest.exceptions import APIError

from supabase import create_client

#: Beside the tables of `handwritten`.
FUNCTIONS = """
create function select_session(of_id uuid) returns setof uuid language sql stable
    as 'select id from sessions where id = of_id';
create function insert_session(new_id uuid) returns void language sql
    as 'insert into sessions (id) values (new_id)';
create function insert_interaction(new_id uuid, of_session uuid, new_prompt text, new_response text, new_model text)
    returns void language sql
    as 'insert into interactions (id, session_id, prompt, response, model)
        values (new_id, of_session, new_prompt, new_response, new_model)';
grant select, insert on sessions, interactions to service_role;
"""
_UNIQUE_VIOLATION = "23505"


def create_app() -> Flask:
    """Return the logger over `SUPABASE_URL`, with the client's own defaults."""
    app = Flask(__name__)
    client = create_client(os.environ["SUPABASE_URL"], os.environ["SUPABASE_SECRET_KEY"])

    @app.post("/log")
    def log() -> tuple[Response, int]:
        sent: dict[str, Any] = request.get_json()
        if not client.rpc("select_session", {"of_id": sent["session_id"]}).execute().data:
            try:
                client.rpc("insert_session", {"new_id": sent["session_id"]}).execute()
            except APIError as error:
                if error.code != _UNIQUE_VIOLATION:  # otherwise somebody else was faster
                    raise
        interaction = {
            "new_id": sent["interaction_id"],
            "of_session": sent["session_id"],
            "new_prompt": sent["prompt"],
            "new_response": sent["response"],
            "new_model": sent["model"],
        }
        client.rpc("insert_interaction", interaction).execute()
        return jsonify(session_id=sent["session_id"], interaction_id=sent["interaction_id"], receipt="created"), 201

    @app.get("/readyz")
    def readyz() -> Response:
        client.rpc("select_session", {"of_id": "00000000-0000-0000-0000-000000000000"}).execute()
        return jsonify(status="writable")

    return app
