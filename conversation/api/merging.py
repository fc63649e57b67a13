"""Merging a guest into the user that the guest turned out to be."""

from flask import Blueprint, Response, jsonify

from conversation import access
from conversation.api import caller, dry_run, requests, schemas
from conversation.api.erasure import named_user
from conversation.api.openapi import describe
from logging_store.records.models import UserMerge

blueprint = Blueprint("merging", __name__)


@blueprint.post("/v1/users/<name:user>/merge")
@access.requires("edit")
@describe(
    "Merge a guest into a user: everything of the guest becomes the user's, also what arrives later",
    UserMerge,
    {200: schemas.UserMerged},
    query=dry_run.Query,
)
def merge_user(user: str) -> Response:
    guest, into = named_user(user), requests.read(UserMerge).into
    if into == guest:
        raise requests.InvalidBody([{"path": "$.into", "detail": "Must be another user than the guest"}])
    report = caller.repository().merge_user(guest, into, dry_run=dry_run.requested())
    return jsonify(schemas.UserMerged.arrange(report))
