"""The logger that people write by hand, to measure Turnlog against: one view, three statements.

Select the session, insert it if it is missing, insert the interaction; each statement commits by itself, over a pool
of connections, without batching. Nothing in it is slow on purpose, and it does less: no receipts, no fill rule, no
validation, and a call made again fails on its primary key.
"""

import contextlib
import os
from typing import Any

from flask import Flask, Response, jsonify, request
from psycopg.errors import UniqueViolation
from psycopg_pool import ConnectionPool

from conversation.settings import Settings

SCHEMA = """
create table if not exists sessions (
    id         uuid primary key,
    user_id    text,
    title      text,
    created_at timestamptz not null default now()
);
create table if not exists interactions (
    id         uuid primary key,
    session_id uuid not null references sessions (id),
    prompt     text not null,
    response   text,
    model      text,
    created_at timestamptz not null default now()
);
create index if not exists interactions_of_session_idx on interactions (session_id, created_at);
"""
COUNTING = "select count(*) from interactions"


def create_app() -> Flask:
    """Return the logger over `DATABASE_URL`. Its pool has the size of Turnlog's and opens at the first call."""
    app = Flask(__name__)
    pool = ConnectionPool(
        os.environ["DATABASE_URL"],
        min_size=1,
        max_size=Settings.from_environment().turnlog_pool_size,
        kwargs={"autocommit": True},
        open=False,
    )

    @app.post("/log")
    def log() -> tuple[Response, int]:
        sent: dict[str, Any] = request.get_json()
        pool.open()
        with pool.connection() as connection:
            session = connection.execute("select id from sessions where id = %s", [sent["session_id"]]).fetchone()
            if session is None:
                with contextlib.suppress(UniqueViolation):  # somebody else was faster
                    connection.execute("insert into sessions (id) values (%s)", [sent["session_id"]])
            connection.execute(
                "insert into interactions (id, session_id, prompt, response, model) values (%s, %s, %s, %s, %s)",
                [sent["interaction_id"], sent["session_id"], sent["prompt"], sent["response"], sent["model"]],
            )
        return jsonify(session_id=sent["session_id"], interaction_id=sent["interaction_id"], receipt="created"), 201

    @app.get("/readyz")
    def readyz() -> Response:
        pool.open()
        with pool.connection() as connection:
            connection.execute("select 1")
        return jsonify(status="writable")

    return app
