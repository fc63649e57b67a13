"""The modules of the API; each has a `blueprint`."""

from conversation.api import (
    audit,
    batches,
    browser_client,
    erasure,
    feedback,
    folders,
    health,
    interactions,
    merging,
    messages,
    metrics,
    overview,
    participants,
    problems,
    revisions,
    search,
    sessions,
    traces,
    usage,
)
from conversation.api.legacy import chats, create_and_log

RESOURCES = (
    *(sessions, folders, participants, interactions, revisions, traces, messages, batches, feedback),
    *(search, overview, usage, erasure, merging, audit),
    *(create_and_log, chats),
    *(health, metrics, browser_client, problems),
)
