"""All pages, each with its blueprint."""

from conversation.pages import (
    assets,
    dead_letters,
    feedback,
    folders,
    health,
    keys,
    live,
    overview,
    search,
    session_files,
    sessions,
    sign_in,
    transcript,
)

PAGES = (
    *(assets, sign_in, overview, sessions, transcript, feedback, session_files, live, search),
    *(folders, keys, dead_letters, health),
)
