"""Which document a page belongs to, and the other pages of it: the negatives that look most like a positive."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.data.groups.sampling import Keys, hash_text
from crossrank.types import Document

# Where nobody says which field it is.
DOCUMENT_FIELDS = ("doc_id", "doc-id", "document_id", "document", "file")
# As in report.pdf#page=3, 2023.acl-long.1-p012, report/page_12.jpg.
_PAGE_ID = re.compile(r"(?P<document>.+?)[-_./# ](?:p|page)[-_= ]?\d+(?:\.\w+)?", re.IGNORECASE)

# The numbers of documents that are no document's.
NO_DOCUMENT, UNKNOWN_DOCUMENT = 0, 1


def document_key(document: Document, field: str | None) -> int:
    """Return a hash of the document that a page belongs to.

    A field of its metadata says it, or else its id where that ends in the number of a page.

    Args:
        document: The page.
        field: Which field; the first of `DOCUMENT_FIELDS` that is there where None.

    Returns:
        `UNKNOWN_DOCUMENT` for an image of which neither says it, `NO_DOCUMENT` for such a text.
    """
    fields = DOCUMENT_FIELDS if field is None else (field,)
    stated = next((value for name in fields if _is_name(value := document.metadata.get(name))), None)
    if stated is None and field is None and document.id is not None:
        match = _PAGE_ID.fullmatch(document.id)
        stated = match["document"] if match else None
    if stated is None:
        return NO_DOCUMENT if document.image is None else UNKNOWN_DOCUMENT
    return max(hash_text(str(stated)), UNKNOWN_DOCUMENT + 1)


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""


class PageIndex:
    """The pages of each document of a store; takes 16 bytes of memory a page.

    Args:
        keys: The `document_key` of every row, uint64.
    """

    def __init__(self, keys: Keys) -> None:
        self.keys = keys
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    @property
    def is_empty(self) -> bool:
        """Whether no document is known."""
        return not len(self._sorted) or int(self._sorted[-1]) <= UNKNOWN_DOCUMENT

    @property
    def has_images(self) -> bool:
        """Whether there are images of no known document."""
        return bool(np.isin(UNKNOWN_DOCUMENT, self._sorted))

    def around(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the pages of the documents that some pages belong to, those included, nearest to one of these first.

        Args:
            rows: Row numbers; pages that stand near each other in the data count as near.
        """
        found = [np.zeros(0, np.int64), *(self._pages(key) for key in np.unique(self.keys[rows]))]
        pages = np.concatenate(found)
        if not len(pages):
            return pages
        distances = np.abs(pages[:, None] - rows[None, :]).min(axis=1)
        return pages[np.lexsort((pages, distances))]

    def _pages(self, key: np.uint64) -> npt.NDArray[np.int64]:
        if key <= UNKNOWN_DOCUMENT:
            return np.zeros(0, np.int64)
        first, last = np.searchsorted(self._sorted, key), np.searchsorted(self._sorted, key, "right")
        return self._order[first:last]
