"""What negatives are mined for: queries with known positives, each in a corpus; from BEIR files or a corpus-ID file."""

from __future__ import annotations

import bisect
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from crossrank.data.beir import open_corpus, read_queries
from crossrank.data.groups.corpus_id import METADATA_FILE, corpus_files, corpus_folders, read_corpora
from crossrank.data.groups.inline import ID_KEYS, QUERY_KEYS, first_field, query_id
from crossrank.data.groups.store_writer import StoreWriter
from crossrank.data.json_stream import stream_json
from crossrank.data.qrels import read_qrels
from crossrank.data.records import json_kind, record_id
from crossrank.data.text import display_name
from crossrank.errors import DataError, InputError
from crossrank.types import Document

# The name of the corpus where the files give it none.
CORPUS_ID = "corpus"


class Question(NamedTuple):
    """A query and what is known about it.

    Attributes:
        query_id: Its key.
        query: The text.
        corpus_id: Which corpus its documents are in.
        positives: Ids of the relevant documents; at least one.
        negatives: Ids of the documents that are known not to be relevant.
        fields: What else its row holds; carried through.
    """

    query_id: str
    query: str
    corpus_id: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]
    fields: Mapping[str, Any]


class MinableCorpus(Protocol):
    """The documents of a corpus, each read when it is asked for."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Document]: ...

    def get(self, document_id: str) -> Document | None:
        """Return the document with this id, or None where there is none."""
        ...

    def at(self, place: int, /) -> Document:
        """Return a document by its place, counted from 0."""
        ...


@dataclass(frozen=True)
class QuestionSet:
    """Queries over one or several corpora.

    Attributes:
        corpora: By their ids.
        read: Yields the questions, in the order of the file; may be called again.
        num_questions: How many they are.
        files: What everything was read from.
        corpus_paths: The corpus folders of a corpus-ID file; empty for BEIR files.
        num_without_positives: Queries of the file that nothing is mined for.
    """

    corpora: Mapping[str, MinableCorpus]
    read: Callable[[], Iterator[Question]]
    num_questions: int
    files: tuple[Path, ...]
    corpus_paths: tuple[Path, ...] = field(default=())
    num_without_positives: int = 0


@contextmanager
def open_beir_questions(queries: Path, corpora: Sequence[Path], qrels: Path) -> Iterator[QuestionSet]:
    """Open BEIR files; several corpora count as one, in which an id may stand for one document alone.

    Grades above 0 make positives; those of 0 make known negatives.

    Raises:
        DataError: If a file is bad, or the judgements name an unknown query or document.
    """
    texts = read_queries(queries)
    with ExitStack() as stack:
        corpus = _JoinedCorpora([stack.enter_context(open_corpus(path)) for path in corpora])
        judged = read_qrels(qrels, queries=texts, documents=corpus)
        graded = {
            query_id: tuple(
                tuple(d for d, grade in grades.items() if (grade > 0) is wanted) for wanted in (True, False)
            )
            for query_id, grades in judged.items()
        }
        empty = next((query_id for query_id in graded if not texts[query_id].strip()), None)
        if empty is not None:
            raise DataError(f"the query {empty!r} is empty", path=display_name(queries))

        def read() -> Iterator[Question]:
            for query_id, (positives, negatives) in graded.items():
                if positives:
                    yield Question(query_id, texts[query_id], CORPUS_ID, positives, negatives, {})

        num = sum(bool(positives) for positives, _ in graded.values())
        files = (queries, *corpora, qrels)
        yield QuestionSet({CORPUS_ID: corpus}, read, num, files, num_without_positives=len(texts) - num)


class _JoinedCorpora:
    def __init__(self, corpora: Sequence[MinableCorpus]) -> None:
        self._corpora = corpora
        self._ends = list(accumulate(len(corpus) for corpus in corpora))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[Document]:
        for corpus in self._corpora:
            yield from corpus

    def __contains__(self, document_id: object) -> bool:
        return isinstance(document_id, str) and self.get(document_id) is not None

    def get(self, document_id: str) -> Document | None:
        found = (corpus.get(document_id) for corpus in self._corpora)
        return next((document for document in found if document is not None), None)

    def at(self, place: int) -> Document:
        number = bisect.bisect_right(self._ends, place)
        return self._corpora[number].at(place - (self._ends[number - 1] if number else 0))


@contextmanager
def open_corpus_id_questions(path: Path) -> Iterator[QuestionSet]:
    """Open a corpus-ID file of NeMo AutoModel; its documents lie in a temporary folder while it is open.

    Raises:
        DataError: If the file or a corpus is bad, or a row names an unknown corpus or document.
    """
    folders = corpus_folders(path)
    files = (path, *(file for folder in folders for file in (folder / METADATA_FILE, *corpus_files(folder))))
    with tempfile.TemporaryDirectory() as folder, StoreWriter(Path(folder)) as writer:
        corpora = read_corpora(path, writer)
        writer.problems.raise_errors()

        def read() -> Iterator[Question]:
            return _read_rows(path, corpora)

        num = sum(1 for _ in read())  # every row is checked before the long work begins
        unique = tuple(dict.fromkeys(folder.resolve() for folder in folders))
        yield QuestionSet(corpora, read, num, files, unique)


def _read_rows(path: Path, corpora: Mapping[str, MinableCorpus]) -> Iterator[Question]:
    seen: set[str] = set()
    for key, line, row in stream_json(path):
        if key == "data":
            try:
                question = _question(row, corpora)
                if question.query_id in seen:
                    raise InputError(f"the id {question.query_id!r} stands for another question above")
                seen.add(question.query_id)
                yield question
            except InputError as error:
                raise DataError(str(error), path=display_name(path), line=line) from error


def _question(row: Any, corpora: Mapping[str, MinableCorpus]) -> Question:
    if not isinstance(row, dict):
        raise InputError(f"expected a JSON object, found {json_kind(row)}")
    for required in (ID_KEYS, ("corpus_id",)):
        first_field(row, required)
    key, query, corpus_id = query_id(row), first_field(row, QUERY_KEYS), row["corpus_id"]
    if not isinstance(query, str) or not query.strip() or key is None:
        raise InputError("the query must have an id and a text that is not empty")
    if corpus_id not in corpora:
        raise InputError(f"unknown corpus_id {corpus_id!r}; known are {', '.join(map(repr, corpora))}")
    positives, negatives = (_ids(row.get(name) or [], corpora[corpus_id]) for name in ("pos_doc", "neg_doc"))
    if not positives:
        raise InputError("there is no positive")
    return Question(key, query, corpus_id, positives, tuple(d for d in negatives if d not in positives), row)


def _ids(value: Any, corpus: MinableCorpus) -> tuple[str, ...]:
    ids = []
    for item in value if isinstance(value, list) else [value]:
        document_id = record_id(item if isinstance(item, dict) else {"id": item})
        if document_id is None or corpus.get(document_id) is None:
            raise InputError(f"document {document_id!r} is not in the corpus")
        ids.append(document_id)
    return tuple(dict.fromkeys(ids))
