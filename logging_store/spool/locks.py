"""The names of spool files, and the lock files beside them.

The kernel releases a lock when its process ends, however it ends; a process id in a file would stay. The lock is a file
of its own, since closing any descriptor of a database releases SQLite's locks on it.
"""

import fcntl
import os
from pathlib import Path

import uuid_utils

PREFIX, SUFFIX, LOCK, BROKEN = "spool-", ".sqlite3", ".lock", ".broken"


def reserve_path(directory: Path) -> tuple[Path, int]:
    """Return a new path and the descriptor that holds its lock."""
    while True:
        path = directory / f"{PREFIX}{uuid_utils.uuid7().hex}{SUFFIX}"
        # another process may have locked it, taking it for a leftover of a deleted file
        if (lock_fd := try_lock(path)) is not None:
            return path, lock_fd


def try_lock(path: Path) -> int | None:
    """Return a descriptor that holds a file's lock, or None if another process holds it or has just removed it."""
    descriptor = os.open(lock_path(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino == lock_path(path).stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def lock_path(path: Path) -> Path:
    return path.with_suffix(LOCK)


def journal_path(path: Path) -> Path:
    return path.with_name(path.name + "-journal")
