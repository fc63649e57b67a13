"""All page modules, each with its blueprint."""

from conversation.pages import (
    assets,
    dead_letters_page,
    feedback_page,
    folders_page,
    health_page,
    keys_page,
    live_page,
    overview_page,
    search_page,
    session_files,
    session_page,
    sessions_page,
    sign_in_page,
)

PAGES = (
    *(
        assets,
        sign_in_page,
        overview_page,
        sessions_page,
        session_page,
        feedback_page,
        session_files,
        live_page,
        search_page,
    ),
    *(folders_page, keys_page, dead_letters_page, health_page),
)
