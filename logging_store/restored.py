"""Records as a store had them, to be had again by another: with what the service itself noted of each.

Callers of the API can't state these fields, so these are records of their own.
"""

from logging_store.records import Interaction, Session
from logging_store.values import Time


class RestoredSession(Session):
    created_at: Time
    implicit: bool = False


class RestoredInteraction(Interaction):
    created_at: Time
