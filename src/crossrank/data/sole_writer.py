"""One process at a time for an output that is written piece by piece."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from crossrank.errors import DataError


@contextmanager
def sole_writer(place: Path, *, create: Callable[[], object]) -> Iterator[None]:
    """Keep other processes from what is unfinished until the block ends, or this process does, whichever way.

    Args:
        place: The file or folder that the pieces are put into.
        create: Makes it where it is missing.

    Raises:
        DataError: If another process is writing it.
        OSError: If it cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # Windows: nobody is kept away
        create()
        yield
        return

    def lock() -> int:
        while True:
            create()
            descriptor = os.open(place, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                message = "another process is writing it: wait until that one is done, or give another output"
                raise DataError(message, path=place) from None
            except OSError:
                return descriptor  # a file system without locks
            # The writer before may have finished, and moved it away, between the opening and the lock.
            if place.exists() and os.path.samestat(os.fstat(descriptor), place.stat()):
                return descriptor
            os.close(descriptor)

    descriptor = lock()
    try:
        yield
    finally:
        os.close(descriptor)
