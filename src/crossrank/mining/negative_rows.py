"""A mined question as the row of a file, and what is counted for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from crossrank.data.groups.inline import ID_KEYS, QUERY_KEYS
from crossrank.data.mined_groups import NEGATIVES, POSITIVES
from crossrank.errors import InputError
from crossrank.mining.negatives import Mined, MinedQuestion

_OWN_FIELDS = {*ID_KEYS, *QUERY_KEYS, POSITIVES, NEGATIVES}


def row_with_texts(mined: MinedQuestion) -> dict[str, Any]:
    """Return a row that needs no corpus; `score` is the teacher's alone, so that training may learn from it.

    Raises:
        InputError: If a document is an image without a file.
    """
    question = mined.question
    rest = {key: value for key, value in question.fields.items() if key not in _OWN_FIELDS}
    return {
        "question_id": question.query_id,
        "query": question.query,
        **rest,
        POSITIVES: [_with_text(document) for document in mined.positives],
        NEGATIVES: [_with_text(document) for document in mined.negatives],
    }


def row_with_ids(mined: MinedQuestion) -> dict[str, Any]:
    """Return the row that was read, with the ids and scores of the documents; only finite scores are written.

    `score` is the teacher's; without a teacher, that of the single retriever, which leaves out what it did not find.
    """
    return {
        **mined.question.fields,
        POSITIVES: [_with_id(document) for document in mined.positives],
        NEGATIVES: [_with_id(document) for document in mined.negatives],
    }


def counts_of(mined: MinedQuestion, *, wanted: int) -> dict[str, int]:
    """Return what the report adds up over the questions."""
    sources = Counter(f"{document.source} negatives" for document in mined.negatives)
    new = sum(document.source != "given" for document in mined.negatives)
    flags = {"questions": 1, "positives": len(mined.positives), "fewer negatives than wanted": int(new < wanted)}
    return flags | {"without negatives": int(not mined.negatives)} | sources | mined.counts


def _with_text(mined: Mined) -> dict[str, Any]:
    document = mined.document
    if isinstance(document.image, bytes):
        raise InputError(f"the image of document {document.id!r} has no file: write corpus-ID JSON (-o FILE.json)")
    found_by = {name: place._asdict() for name, place in mined.found_by.items()}
    return _without_none(
        {
            "id": document.id,
            "title": document.title,
            "text": document.text,
            "image": document.image,
            "score": mined.teacher,
            "source": None if mined.source == "positive" else mined.source,
            "found_by": found_by or None,
        }
    )


def _with_id(mined: Mined) -> dict[str, Any]:
    scores = list(mined.scores().values())
    return _without_none({"id": mined.document.id, "score": scores[0] if len(scores) == 1 else None})


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
