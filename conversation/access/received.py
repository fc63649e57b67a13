"""A request's body that has arrived. A large one waits on the disk until its request is served, not in memory."""

import tempfile

IN_MEMORY = 256 * 1024  # bytes; a worker may have more than a hundred clients that send at once


class Received(tempfile.SpooledTemporaryFile[bytes]):
    """A body that has been received; its `size` is in bytes. What is on the disk has no name there."""

    def __init__(self) -> None:
        super().__init__(max_size=IN_MEMORY)
        self.size = 0

    def add(self, data: bytes) -> None:
        self.write(data)
        self.size += len(data)
