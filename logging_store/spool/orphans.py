"""What dead processes and failing disks leave in a spool's folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from logging_store.spool.files import SpoolFile
from logging_store.spool.locks import (
    BROKEN,
    LOCK,
    PREFIX,
    SUFFIX,
    journal_of,
    lock_of,
    new_name,
    sync_directory,
    take_lock,
)


def rescue(path: Path) -> SpoolFile | None:
    """Return a copy of a broken file, recovered; the broken one is removed once the copy is on the disk."""
    owned = take_lock(path)
    if owned is None:
        return None
    try:
        copy, copy_owned = new_name(path.parent)
        with _removed_on_failure(copy, journal_of(copy), lock_of(copy)):
            try:
                # the journal first: without it a file in the middle of a commit looks whole
                for source, target in ((journal_of(path), journal_of(copy)), (path, copy)):
                    if source.exists():
                        _copy_to_disk(source, target)
                sync_directory(path.parent)
                file = SpoolFile(copy, copy_owned)
            except BaseException:
                os.close(copy_owned)
                raise
        try:
            for left in (path, journal_of(path), path.with_suffix(BROKEN), lock_of(path)):
                left.unlink(missing_ok=True)
        except OSError:
            file.close()  # the copy is an orphan now; both will be delivered, which changes nothing
            raise
        return file
    finally:
        os.close(owned)


def remove_remains(directory: Path) -> None:
    """Remove what lies beside files that are gone."""
    for lock in directory.glob(f"{PREFIX}*{LOCK}"):
        path = lock.with_suffix(SUFFIX)
        if not path.exists() and (owned := take_lock(path)) is not None:
            try:
                if not path.exists():
                    for left in (journal_of(path), path.with_suffix(BROKEN), lock):
                        left.unlink(missing_ok=True)
            finally:
                os.close(owned)


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
