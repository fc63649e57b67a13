"""Files and folders that only their owner may read: they hold what people said, or names of theirs; and their sync."""

import os
from pathlib import Path


def create(path: Path) -> int:
    """Create a file that must not be there, nor a link in its place; return its descriptor, for writing."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def sync_directory(directory: Path) -> None:
    """Make added and removed names durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create a folder and those above it, as far as they are missing. `Path.mkdir` would open those above to all."""
    for above in (*reversed(path.parents), path):
        if not above.exists():
            above.mkdir(mode=0o700, exist_ok=True)
