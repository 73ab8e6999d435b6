"""Labelled pairs to a folder that training and mining read: `labels.jsonl`, `queries.jsonl`, `qrels/train.tsv`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from crossrank.data.new_folder import check_id, new_folder
from crossrank.types import Document


@dataclass(frozen=True)
class LabelledPair:
    """A query, a document, and how relevant it seems.

    Attributes:
        query_id: In `queries.jsonl` and `qrels`.
        query: The text.
        document_id: In the corpus.
        label: From 0 to 1.
        relevant: Whether it counts as relevant in `qrels`.
        impressions: How often it was shown.
        clicks: How often it was clicked.
    """

    query_id: str
    query: str
    document_id: str
    label: float
    relevant: bool
    impressions: int
    clicks: int


def write_labels(
    folder: Path,
    pairs: Iterable[LabelledPair],
    *,
    report: Mapping[str, Any],
    find_document: Callable[[str], Document | None] | None = None,
) -> int:
    """Write labelled pairs into a new folder, and return how many were left out because the corpus lacks them.

    `labels.jsonl` has every pair, with the document's text where a corpus is given: labelled pairs for training.
    `queries.jsonl` and `qrels/train.tsv` are in BEIR's layout; qrels name the relevant pairs alone, since what was not
    clicked is not known to be irrelevant. `report.json` is the report. The folder appears when it is complete.

    Args:
        folder: Must not exist yet, or be empty.
        pairs: Query by query.
        report: Written as it is.
        find_document: Gives the document of an id; None is no corpus.

    Raises:
        InputError: If the folder holds something, or an id cannot stand in qrels.
        OSError: If it cannot be written.
    """
    with new_folder(folder) as fresh:
        (fresh / "qrels").mkdir()
        unknown = _write(fresh, pairs, find_document)
        (fresh / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return unknown


def _write(folder: Path, pairs: Iterable[LabelledPair], find_document: Callable[[str], Document | None] | None) -> int:
    unknown, last = 0, None
    with ExitStack() as stack:
        labels, queries, qrels = (
            stack.enter_context((folder / name).open("w", encoding="utf-8"))
            for name in ("labels.jsonl", "queries.jsonl", "qrels/train.tsv")
        )
        qrels.write("query-id\tcorpus-id\tscore\n")
        for pair in pairs:
            text: dict[str, Any] = {}
            if find_document is not None:
                document = find_document(pair.document_id)
                if document is None:
                    unknown += 1
                    continue
                text = {"document": document.text} | ({"title": document.title} if document.title else {})
            for part in (pair.query_id, pair.document_id):
                check_id(part)
            labels.write(json.dumps(asdict(pair) | text, ensure_ascii=False) + "\n")
            if pair.query_id != last:
                queries.write(json.dumps({"_id": pair.query_id, "text": pair.query}, ensure_ascii=False) + "\n")
                last = pair.query_id
            if pair.relevant:
                qrels.write(f"{pair.query_id}\t{pair.document_id}\t1\n")
    return unknown
