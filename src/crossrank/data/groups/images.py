"""The images that training data refers to: found, checked once each, and remembered, so that a change is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from crossrank.data.groups.report import UnreadableImage
from crossrank.data.groups.sampling import hash_bytes, hash_text
from crossrank.data.records import json_kind
from crossrank.errors import InputError

# Decodes an image (a path, a data URL or bytes), and raises `InputError` where it cannot be read.
CheckImage = Callable[[str | bytes], None]
IMAGE_STATES = "images.jsonl"


class ImageFiles:
    """The images of one source while its store is written; takes about 100 bytes of memory an image file.

    Args:
        folder: Of the store; `images.jsonl` there gets a line a file: its path, its size and its time.
        check: Looks at each image once; None looks whether its file is there.
    """

    def __init__(self, folder: Path, check: CheckImage | None) -> None:
        self._check = check
        self._states = (folder / IMAGE_STATES).open("w", encoding="utf-8")
        # By a hash of the path: a hash of the content, or what is wrong with the file.
        self._known: dict[int, int | str] = {}

    def find(self, value: Any, folder: Path) -> str | bytes:
        """Return an image of a row as a path that can be opened from anywhere, a data URL, or bytes.

        Args:
            value: A path, a data URL, bytes, or an image column of the hub: `{"bytes": ..., "path": ...}`.
            folder: What a path is relative to.

        Raises:
            InputError: If it is of another kind; an `UnreadableImage` if it is missing or broken.
        """
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            self._look_at(value)
            return value
        if not isinstance(value, str):
            raise InputError(f"'image' must be a path or a data URL, not {json_kind(value)}")
        if value.startswith("data:"):
            self._look_at(value)
            return value
        if value.startswith(("http://", "https://")):
            raise UnreadableImage(f"the image {value!r} is an address, and nothing is fetched: give a file")
        path = folder.resolve() / value
        key = hash_text(str(path))
        if key not in self._known:
            self._known[key] = self._read(path)
        problem = self._known[key]
        if isinstance(problem, str):
            raise UnreadableImage(problem)
        return str(path)

    def content_key(self, image: str | bytes) -> int:
        """Return a hash of the content of an image that `find` has returned: the same for copies of a file."""
        if isinstance(image, bytes):
            return hash_bytes(image)
        known = self._known.get(hash_text(image))
        return known if isinstance(known, int) else hash_text(image)

    def _read(self, path: Path) -> int | str:
        """Return a hash of the content of a file, or what is wrong with it, and remember its state."""
        self._states.write(json.dumps([str(path), *_state(path)], ensure_ascii=False) + "\n")
        if not path.is_file():
            return f"no image file {path}"
        try:
            with path.open("rb") as file:
                content = int.from_bytes(hashlib.file_digest(file, "sha256").digest()[:8], "little")
            self._look_at(str(path))
        except OSError as error:
            return f"the image {path} cannot be read: {error.strerror or error}"
        except InputError as error:
            return str(error)
        return content

    def _look_at(self, image: str | bytes) -> None:
        if self._check is not None:
            try:
                self._check(image)
            except InputError as error:
                raise UnreadableImage(str(error)) from None

    def __enter__(self) -> ImageFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._states.close()


def images_are_unchanged(folder: Path) -> bool:
    """Return whether all image files of a store are as they were when it was written, the missing ones missing."""
    with (folder / IMAGE_STATES).open(encoding="utf-8") as file:
        return all(_state(Path(path)) == tuple(state) for path, *state in map(json.loads, file))


def images_digest(folder: Path) -> str:
    """Return a name for the state of the image files of a store; empty where there are none."""
    content = (folder / IMAGE_STATES).read_bytes()
    return hashlib.sha256(content).hexdigest()[:16] if content else ""


def _state(path: Path) -> tuple[int | None, int | None]:
    try:
        found = path.stat()
    except OSError:
        return None, None
    return found.st_size, found.st_mtime_ns
