"""A data set to a BEIR folder, in one step: the folder takes its name when everything in it is written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossrank.data.beir import open_corpus
from crossrank.data.layouts.contents import Contents
from crossrank.errors import DataError
from crossrank.types import Document

CANDIDATES_FILE = "candidates.jsonl"
# How a file of each kind begins, so that a page can be looked at in the folder.
_IMAGE_KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp", b"GIF8": "gif"}


def write_beir(contents: Contents, folder: Path, *, split: str, source: str | Path) -> None:
    """Write `queries.jsonl`, `corpus.jsonl`, `qrels/SPLIT.tsv`, and `candidates.jsonl` and images where there are any.

    Of the queries, those with a relevant document are written: where nothing is relevant nothing can be measured, and
    the field's own evaluators leave such queries out.

    Args:
        contents: What is written.
        folder: Where to; it must not be there.
        split: Of the judgements.
        source: Where the contents come from, for errors.

    Raises:
        DataError: If a judged query has no text, a document no id, two documents have one, or a judged document or a
            candidate is not among the documents.
    """
    qrels = {query_id: grades for query_id, grades in contents.qrels.items() if any(grades.values())}
    missing = next((query_id for query_id in qrels if query_id not in contents.queries), None)
    if missing is not None:
        raise DataError(f"query {missing!r} is judged and has no text", path=source)
    if not qrels:
        raise DataError("no query has a relevant document: there is nothing to evaluate on", path=source)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(contents, qrels, part, split, source)
        try:
            part.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write(
    contents: Contents, qrels: Mapping[str, Mapping[str, int]], folder: Path, split: str, source: str | Path
) -> None:
    queries = (
        {"_id": query_id, "text": contents.queries[query_id]}
        | ({"language": contents.languages[query_id]} if query_id in contents.languages else {})
        for query_id in qrels
    )
    _write_lines(folder / "queries.jsonl", queries)
    candidates = {document_id for listed in (contents.candidates or {}).values() for document_id in listed}
    judged = {document_id for grades in qrels.values() for document_id in grades}
    unseen = candidates | judged
    documents = _noted(contents.documents, unseen)
    _write_lines(folder / "corpus.jsonl", (_record(*item, folder, source) for item in enumerate(documents)))
    for kind, named in (("candidate", candidates), ("judged document", judged)):
        if missing := named & unseen:
            problem = f"{kind} {min(missing)!r} ({len(missing)} such) is not among the documents"
            raise DataError(problem, path=source)
    _check_ids(folder / "corpus.jsonl", source)
    (folder / "qrels").mkdir()
    with (folder / "qrels" / f"{split}.tsv").open("w", encoding="utf-8", newline="\n") as stream:
        stream.write("query-id\tcorpus-id\tscore\n")
        stream.writelines(f"{q}\t{d}\t{grade}\n" for q, grades in qrels.items() for d, grade in grades.items())
    if contents.candidates is not None:
        _write_lines(folder / CANDIDATES_FILE, _listed(contents.candidates, qrels))


def _noted(documents: Iterable[Document], unseen: set[str]) -> Iterator[Document]:
    for document in documents:
        unseen.discard(document.id or "")
        yield document


def _listed(candidates: Mapping[str, Sequence[str]], qrels: Iterable[str]) -> Iterable[dict[str, Any]]:
    return ({"query-id": query_id, "corpus-ids": list(candidates.get(query_id, ()))} for query_id in qrels)


def _check_ids(corpus: Path, source: str | Path) -> None:
    try:
        with open_corpus(corpus) as written:
            written.check_unique(allow_same=False)
    except DataError as error:
        raise DataError(f"document {error.line}: {error.message}", path=source) from error


def _record(number: int, document: Document, folder: Path, source: str | Path) -> dict[str, Any]:
    if document.id is None:
        raise DataError(f"document {number + 1} has no id", path=source)
    record: dict[str, Any] = {"_id": document.id, "title": document.title or "", "text": document.text}
    if document.image is not None:
        record["image"] = _write_image(document.image, folder / "images", number)
    return record


def _write_image(image: bytes, folder: Path, number: int) -> str:
    folder.mkdir(exist_ok=True)
    kind = next((kind for start, kind in _IMAGE_KINDS.items() if image.startswith(start)), "img")
    # Named by number, because an id may hold what no file name can.
    file = folder / f"{number:07}.{kind}"
    file.write_bytes(image)
    return f"{folder.name}/{file.name}"


def _write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    with file.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
