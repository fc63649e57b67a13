"""Checks this machine: its spool, the space on its disk, and its clock."""

import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from conversation.doctor.findings import Check, Finding, number_of
from conversation.doctor.remedies import TURNLOG
from conversation.settings import Settings
from logging_store.errors import TurnlogError
from logging_store.spool import DeadLetters, Limits, SpoolDirectory, others
from logging_store.spool.others import Other

_CLOCK_TOLERANCE_S = 1.0  # NTP is well below this; times of arrival come from this machine's clock
_MB = 1 << 20


def _spool_checks(settings: Settings) -> list[Check]:
    directory = SpoolDirectory(settings.spool_folders, Limits())
    letters = DeadLetters(settings.spool_dir).count()
    unreadable = directory.find_unreadable()
    return [
        Check("spool", f"{settings.spool_dir} is empty", list(_waiting(directory))),
        Check("dead letters", "none", list(_dead_letters(letters, settings.spool_dir))),
        Check("other spools", "none", [_other(each) for each in others.find(settings.spool_folders)]),
        Check("spool files", "all are readable", [_unreadable(path) for path in unreadable]),
        Check("spool room", _room(settings), list(_no_room(settings, directory.used_bytes()))),
    ]


def check_clock(ask: Callable[[], float], clock: Callable[[], float], monotonic: Callable[[], float]) -> Check:
    """Compare this machine's clock with the database's; `ask` returns the database's time; all times are in seconds.

    The round trip limits the precision, so the fastest of three counts, and half of it is the tolerance.
    """
    samples = []
    for _ in range(3):
        begun, before = monotonic(), clock()
        theirs = ask()
        half = (monotonic() - begun) / 2
        samples.append((half, theirs - (before + half)))
    half, ahead = min(samples, key=lambda sample: sample[0])
    certain = max(0.0, abs(ahead) - half)
    summary = f"within {abs(ahead) + half:.3f} s of the database's"
    if certain <= _CLOCK_TOLERANCE_S:
        return Check("clock", summary)
    return Check("clock", summary, [
        Finding(
            f"this machine's clock is {certain:.1f} s {'behind' if ahead > 0 else 'ahead of'} the database's",
            "Times of arrival are wrong, so lists, and transcripts without turn numbers, are out of order.",
            ["sudo timedatectl set-ntp true  # on this machine, or on the database's if its clock is wrong"],
        )
    ])  # fmt: skip


def _waiting(directory: SpoolDirectory) -> Iterator[Finding]:
    depth = directory.depth()
    if depth.entries:
        yield Finding(
            f"{number_of(depth.records, 'record')} in {number_of(depth.entries, 'batch', 'batches')} wait in "
            f"{directory.path}, the oldest for {depth.oldest_s:,.0f} s",
            "They were acknowledged as spooled. A running service stores them as soon as the database is available.",
            [f"{TURNLOG} serve"],
        )


def _dead_letters(count: int | None, folder: Path) -> Iterator[Finding]:
    if count is None:
        yield Finding(
            f"the dead letters in {folder} can't be read",
            "That file holds records that were acknowledged and then rejected by the database.",
            [f"{TURNLOG} spool status"],
        )
    elif count:
        yield Finding(
            number_of(count, "dead letter"),
            "Records acknowledged while the database was unavailable, but rejected later. Resend or discard them.",
            [f"{TURNLOG} spool list", f"{TURNLOG} spool retry --all"],
        )


def _other(other: Other) -> Finding:
    return Finding(
        str(other),
        "No service delivers them to this database. If it is the other one's copy, or took its place: deliver them.",
        [f"{TURNLOG} spool deliver {other.path.name}", f"{TURNLOG} spool discard {other.path.name} --yes"],
    )


def _unreadable(path: Path) -> Finding:
    whole, recovered = shlex.quote(str(path)), shlex.quote(str(path.with_name(f"{path.stem}-recovered{path.suffix}")))
    return Finding(
        f"{path} can't be read",
        "It may hold acknowledged records. The service ignores it, but delivers a recovered copy beside it.",
        [f"sqlite3 {whole} .recover | sqlite3 {recovered}", f"mv {whole} {whole}.unreadable"],
    )


def _room(settings: Settings) -> str:
    return f"{_free(settings.spool_dir) // _MB:,} MB free on its disk"


def _no_room(settings: Settings, used: int) -> Iterator[Finding]:
    free = _free(settings.spool_dir)
    means = "While the database is unavailable, writes are refused with 503 instead of spooled."
    if free < settings.turnlog_spool_min_free_mb * _MB:
        yield Finding(
            f"only {free // _MB:,} MB are free on the disk of {settings.spool_dir}, "
            f"{settings.turnlog_spool_min_free_mb:,} MB are to be left free",
            means,
            [f"export TURNLOG_SPOOL_MIN_FREE_MB={free // _MB // 2}  # or free space on that disk, and restart"],
        )
    if used >= settings.turnlog_spool_max_mb * _MB:
        yield Finding(
            f"the spool holds {used // _MB:,} MB, its limit",
            means,
            [f"export TURNLOG_SPOOL_MAX_MB={2 * settings.turnlog_spool_max_mb}  # and restart"],
        )


def _free(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which may not exist yet."""
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    return shutil.disk_usage(there).free


def check_spool(settings: Settings) -> Sequence[Check]:
    """Return the checks of the spool; a folder that can't be read is a finding."""
    try:
        return _spool_checks(settings)
    except (OSError, TurnlogError) as error:
        finding = Finding(
            f"the spool can't be read: {error}",
            "While the database is unavailable, writes may be lost.",
            [f"ls -la {shlex.quote(str(settings.spool_dir))}"],
        )
        return [Check("spool", "", [finding])]
