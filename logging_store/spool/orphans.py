"""Recovers and removes what dead processes and failing disks leave in the spool's folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logging_store.private_files import sync_directory
from logging_store.spool.files import SpoolFile
from logging_store.spool.locks import (
    BROKEN,
    LOCK,
    PREFIX,
    SUFFIX,
    journal_path,
    lock_path,
    reserve_path,
    try_lock,
)


def recover(path: Path) -> SpoolFile | None:
    """Copy a broken file, remove it once the copy is synced, and return the copy; None if its owner lives."""
    lock_fd = try_lock(path)
    if lock_fd is None:
        return None
    try:
        copy, copy_lock_fd = reserve_path(path.parent)
        with _removed_on_failure(copy, journal_path(copy), lock_path(copy)):
            try:
                # the journal first: without it a half-committed file looks complete
                for source, target in ((journal_path(path), journal_path(copy)), (path, copy)):
                    if source.exists():
                        _copy_to_disk(source, target)
                sync_directory(path.parent)
                file = SpoolFile(copy, copy_lock_fd)
            except BaseException:
                os.close(copy_lock_fd)
                raise
        try:
            for leftover in (path, journal_path(path), path.with_suffix(BROKEN), lock_path(path)):
                leftover.unlink(missing_ok=True)
        except OSError:
            file.close()  # both are orphans now, and both are delivered: writes are idempotent
            raise
        return file
    finally:
        os.close(lock_fd)


def remove_leftovers(directory: Path) -> None:
    """Remove locks, journals and marks of deleted files."""
    for lock in directory.glob(f"{PREFIX}*{LOCK}"):
        path = lock.with_suffix(SUFFIX)
        if not path.exists() and (lock_fd := try_lock(path)) is not None:
            try:
                if not path.exists():
                    for leftover in (journal_path(path), path.with_suffix(BROKEN), lock):
                        leftover.unlink(missing_ok=True)
            finally:
                os.close(lock_fd)


def _copy_to_disk(source: Path, target: Path) -> None:
    with source.open("rb") as original, target.open("wb") as copy:
        shutil.copyfileobj(original, copy)
        copy.flush()
        os.fsync(copy.fileno())


@contextmanager
def _removed_on_failure(*paths: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
