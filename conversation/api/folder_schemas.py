"""What the API answers about folders."""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from conversation.api.schemas import Answer, SessionView, Stored
from logging_store.batches import Outcome


class PlanView(Answer):
    sessions_per_week: int
    total_weeks: int
    starts_on: date | None


class FolderStatistics(Answer):
    """Derived from the folder's sessions, so always right.

    `planned` are those of the plan; `opened` those that aren't locked any more, or that somebody logged under; `closed`
    are among them.
    """

    planned: int
    sessions: int
    opened: int
    closed: int
    interactions: int
    last_activity_at: datetime | None


class FolderView(Answer):
    folder_id: UUID
    key: str | None
    name: str | None
    user_id: str | None
    plan: PlanView | None
    metadata: dict[str, Any]
    implicit: bool
    created_at: datetime
    statistics: FolderStatistics

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return super().arrange(row) | {
            "plan": PlanView.arrange(row["plan"]) if row["plan"] else None,
            "statistics": FolderStatistics.arrange(row["statistics"]),
        }


class FolderAnswer(FolderView):
    sessions: list[SessionView]
    next: str | None


class FolderPage(Answer):
    folders: list[FolderView]
    next: str | None


class PlannedSession(Answer):
    """What became of a session of the plan; `held_by` is the session that has its number instead."""

    session_number: int
    session_id: UUID
    receipt: Outcome
    fields: list[str]
    reason: str | None
    held_by: UUID | None

    @classmethod
    def arrange(cls, row: Mapping[str, Any]) -> dict[str, Any]:
        return super().arrange({"fields": [], "reason": None, "held_by": None, **row})


class FolderKept(Answer):
    """`fields` are those that this call filled; `sessions` those of the plan that this call states."""

    folder_id: UUID
    key: str | None
    receipt: Stored
    fields: list[str]
    folder: FolderView
    sessions: list[PlannedSession]


class FolderSpooled(Answer):
    """The store is away: the folder is kept on the service's disk and delivered later, with its plan's sessions."""

    folder_id: UUID
    key: str | None
    receipt: Literal["spooled"]
    fields: list[str]
    sessions: list[PlannedSession]
