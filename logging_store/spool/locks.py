"""The names of a spool's files, and the locks beside them.

A lock goes with its process, whatever ended that; a number in a file would not. The lock is a file of its own, since
closing any descriptor of a database gives up SQLite's locks on it.
"""

import fcntl
import os
from pathlib import Path

import uuid_utils

PREFIX, SUFFIX, LOCK, BROKEN = "spool-", ".sqlite3", ".lock", ".broken"


def new_name(directory: Path) -> tuple[Path, int]:
    """Return the path of a file that is to be made, and the descriptor that holds its lock."""
    while True:
        path = directory / f"{PREFIX}{uuid_utils.uuid7().hex}{SUFFIX}"
        # another process may have taken the lock for the remains of a file that is gone
        if (owned := take_lock(path)) is not None:
            return path, owned


def take_lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file, or None if another process does, or has just removed it."""
    descriptor = os.open(lock_of(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == lock_of(path).stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def sync_directory(directory: Path) -> None:
    """Make names that were added or removed durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_of(path: Path) -> Path:
    return path.with_suffix(LOCK)


def journal_of(path: Path) -> Path:
    return path.with_name(path.name + "-journal")
