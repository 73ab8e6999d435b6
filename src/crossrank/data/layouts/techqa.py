"""TechQA: questions from a technical support forum on IBM's technotes.

NVIDIA reports on TechQA without saying which questions and which corpus. Ours: the questions that have an answer, over
the technotes that are released with the training and dev questions (`training_dev_technotes.json`).

Source: Castelli et al., "The TechQA Dataset" (arXiv 1911.02984); hub data set PrimeQA/TechQA, one archive.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossrank.data.hub import dataset_folder
from crossrank.data.layouts.contents import Contents
from crossrank.data.text import reading
from crossrank.errors import DataError, InputError
from crossrank.types import Document

ARCHIVE = "TechQA.tar.gz"
WHOLE_CORPUS = "corpus"
_QUESTIONS = {"train": "training_Q_A.json", "dev": "dev_Q_A.json"}
_TECHNOTES = "training_dev_technotes.json"


def read(source: str | Path, *, config: str | None, split: str, revision: str | None) -> Contents:
    """Read a split; the candidates are the 50 technotes that are released with each question, or any technote.

    An answer is always among the 50, so what a retriever misses is only seen where it searches all.

    Args:
        source: A folder with the archive or with what is in it, or a name on the hub.
        config: `"corpus"` leaves out the lists of candidates: all technotes are searched.
        split: `"train"` or `"dev"`; the answers of the test questions are not public.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If there is no such split or config.
        DataError: If a file is missing or bad.
    """
    if split not in _QUESTIONS:
        raise InputError(f"TechQA has the splits {' and '.join(_QUESTIONS)}, not {split!r}")
    if config not in (None, WHOLE_CORPUS):
        raise InputError(f"TechQA has no config {config!r}: leave it out, or write {WHOLE_CORPUS!r} to search it whole")
    folder = dataset_folder(source, patterns=[ARCHIVE], revision=revision)
    questions, technotes = _load(folder, _QUESTIONS[split]), _load(folder, _TECHNOTES)
    try:
        answered = [question for question in questions if question["ANSWERABLE"] == "Y"]
        return Contents(
            {question["QUESTION_ID"]: _text(question) for question in answered},
            {question["QUESTION_ID"]: {question["DOCUMENT"]: 1} for question in answered},
            list(_documents(technotes)),
            None if config else {question["QUESTION_ID"]: list(question["DOC_IDS"]) for question in answered},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"not in the format of TechQA: {error!r}", path=folder) from error


def _text(question: dict[str, Any]) -> str:
    return f"{question['QUESTION_TITLE']} {question['QUESTION_TEXT']}".strip()


def _documents(technotes: dict[str, dict[str, Any]]) -> Iterator[Document]:
    for document_id, note in technotes.items():
        yield Document(note["text"], title=note["title"] or None, id=document_id)


def _load(folder: Path, name: str) -> Any:
    for file in (folder / "TechQA" / "training_and_dev" / name, folder / "training_and_dev" / name):
        if file.is_file():
            with reading(str(file)):
                return _parse(file.read_bytes(), file)
    archive = folder / ARCHIVE
    if not archive.is_file():
        raise DataError(f"neither {ARCHIVE} nor training_and_dev/{name} is in this folder", path=folder)
    with reading(str(archive)), tarfile.open(archive) as members:
        for member in members:
            if member.name.endswith(f"/training_and_dev/{name}") and (stream := members.extractfile(member)):
                return _parse(stream.read(), archive)
    raise DataError(f"no training_and_dev/{name} in the archive", path=archive)


def _parse(content: bytes, file: Path) -> Any:
    try:
        return json.loads(content)
    except ValueError as error:
        raise DataError(f"malformed JSON: {error}", path=file) from error
