"""What a person decides about dead letters: records that the store refused after they had been acknowledged."""

from dataclasses import replace

from logging_store.batches import Receipt, receipt_of
from logging_store.errors import Conflict, Invalid
from logging_store.spool import DeadLetters
from logging_store.spool.dead_letters import DeadLetter, left_out
from logging_store.store import Store


def retry(store: Store, letters: DeadLetters, letter: DeadLetter) -> tuple[Receipt, bool]:
    """Send a letter again; return what became of it, and whether it is gone from the letters."""
    receipt = _send(store, letter)
    # if the store is away it waits again; what is of an erased session shall be forgotten
    gone = (receipt.kept and not left_out(receipt)) or receipt.reason == "erased"
    if gone:
        letters.remove(letter.number)
    return receipt, gone


def what_became(receipt: Receipt, separator: str) -> str:
    """Return a receipt in one line, with the reason behind a separator."""
    if missing := left_out(receipt):
        return f"{receipt.receipt} in part, not: {', '.join(missing)}"
    why = receipt.reason or ", ".join(receipt.fields)
    return f"{receipt.receipt}{separator}{why}" if why else receipt.receipt


def _send(store: Store, letter: DeadLetter) -> Receipt:
    try:
        receipts = store.write(replace(letter.batch, late=True))
    except (Invalid, Conflict) as error:
        return receipt_of(error)
    pairs = list(zip(letter.batch.rows(), receipts, strict=True))
    # a parent that came along is kept even where the record itself is refused
    return next((receipt for row, receipt in pairs if not row.get("implicit")), pairs[0][1])
