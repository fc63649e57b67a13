"""The modules of the API; each has a `blueprint`."""

from conversation.api import (
    batches,
    browser_client,
    erasure,
    feedback,
    folders,
    health,
    interactions,
    metrics,
    overview,
    participants,
    problems,
    search,
    sessions,
)
from conversation.api.legacy import chats, create_and_log

RESOURCES = (
    *(sessions, folders, participants, interactions, batches, feedback),
    *(search, overview, erasure),
    *(create_and_log, chats),
    *(health, metrics, browser_client, problems),
)
