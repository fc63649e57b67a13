"""Records as another store had them: with what a service notes of each itself, which callers can't state."""

from logging_store.records.models import Feedback, Folder, Interaction, Participant, Record, Session
from logging_store.records.values import Time


class Restored(Record):
    created_at: Time


class RestoredFolder(Restored, Folder):
    """A folder without the sessions of its plan: those are restored as they were, or were erased."""

    implicit: bool = False


class RestoredSession(Restored, Session):
    implicit: bool = False


class RestoredParticipant(Restored, Participant):
    pass


class RestoredInteraction(Restored, Interaction):
    pass


class RestoredFeedback(Restored, Feedback):
    pass
