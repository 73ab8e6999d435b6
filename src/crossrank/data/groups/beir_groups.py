"""BEIR folders: positives from the judgements, negatives from a TREC run or from searching the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from crossrank.data.beir import read_queries
from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_index import CorpusIndex
from crossrank.data.groups.report import BadLines, Problems, UnknownId
from crossrank.data.groups.store import text_key
from crossrank.data.groups.store_writer import Entry, NewGroup, StoreWriter
from crossrank.data.qrels import read_judgements
from crossrank.data.records import document_from_record, read_json_objects
from crossrank.data.text import display_name, read_lines
from crossrank.data.trec import Candidate, read_run
from crossrank.errors import DataError, InputError
from crossrank.types import Document

BM25 = "bm25"
_Judged = dict[str, tuple[list[Entry], int]]


class FirstStage(Protocol):
    """What searches a corpus for negatives: a retriever."""

    def index(self, corpus: Iterable[Document]) -> None:
        """Read the corpus once."""

    def search(self, queries: Mapping[str, str], *, depth: int) -> Iterable[tuple[str, Sequence[Candidate]]]:
        """Yield the queries with their candidates, best first."""
        ...


def read_beir_groups(
    source: SourceConfig, writer: StoreWriter, first_stage: Callable[[], FirstStage] | None = None
) -> None:
    """Write a group for every judged query of a split.

    Args:
        source: The folder, the split, and where negatives come from.
        writer: Takes the groups.
        first_stage: Makes the retriever that `run: bm25` means.

    Raises:
        DataError: If a file cannot be read.
        InputError: If the run is `"bm25"` and there is no `first_stage`.
    """
    files = beir_files(source)
    skipped = BadLines(problems=writer.problems)
    queries = read_queries(files["queries"], skipped=skipped)
    corpus = _read_corpus(files["corpus"], writer)
    judged = _read_judged(files["qrels"], queries, corpus, writer.problems)
    name = display_name(files["qrels"])
    positives = _positives_of_texts(judged, queries)
    for query_id, candidates in _candidates(source, first_stage, queries, corpus, judged, skipped):
        entries, line = judged.pop(query_id)
        taken = positives[text_key(queries[query_id])] | {entry.key for entry in entries}
        unjudged = {entry.key: entry for entry in candidates if entry.key not in taken}
        negatives = list(unjudged.values())[: source.depth]
        writer.add_group(NewGroup(query_id, queries[query_id], (*entries, *negatives), name, line))
    for query_id, (entries, line) in judged.items():
        writer.add_group(NewGroup(query_id, queries[query_id], tuple(entries), name, line))


def beir_files(source: SourceConfig) -> dict[str, Path]:
    """Return the files of a BEIR folder that a source is read from.

    Raises:
        DataError: If one is missing; names the splits that are there.
    """
    folder, split = Path(source.path), source.split or "train"
    files = {
        "queries": _with_gz(folder / "queries.jsonl"),
        "corpus": _with_gz(folder / "corpus.jsonl"),
        "qrels": _with_gz(folder / "qrels" / f"{split}.tsv"),
    }
    if source.run not in (None, BM25):
        files["run"] = Path(source.run)
    if not files["qrels"].is_file():
        splits = sorted(path.name.split(".")[0] for path in folder.glob("qrels/*.tsv*"))
        raise DataError(f"no split {split!r}; there are {', '.join(splits) or 'none'}", path=folder)
    for path in files.values():
        if not path.is_file():
            raise DataError("no such file", path=path)
    return files


def _with_gz(path: Path) -> Path:
    packed = path.with_name(path.name + ".gz")
    return packed if packed.is_file() and not path.is_file() else path


def _read_corpus(path: Path, writer: StoreWriter) -> CorpusIndex:
    name = display_name(path)
    corpus = CorpusIndex(writer, name)
    for line, record in read_json_objects(read_lines(path), name, BadLines(problems=writer.problems)):
        try:
            image = writer.images.find(record["image"], path.parent) if record.get("image") else None
            document = document_from_record({"text": "", **record} if image else record)
            corpus.add(replace(document, image=image), line.number)
        except InputError as error:
            writer.problems.add_row(error, name, line.number)
    corpus.finish()
    return corpus


def _read_judged(path: Path, queries: Mapping[str, str], corpus: CorpusIndex, problems: Problems) -> _Judged:
    """Return the judged documents of each query, and its first line."""
    judged: _Judged = {}
    for line, (query_id, document_id, grade) in read_judgements(path):
        try:
            if query_id not in queries:
                raise UnknownId(f"query {query_id!r} is not among the queries")
            entry = corpus.entry(document_id)._replace(grade=float(grade))
        except InputError as error:
            problems.add_row(error, display_name(path), line)
            continue
        judged.setdefault(query_id, ([], line))[0].append(entry)
    return judged


def _positives_of_texts(judged: _Judged, queries: Mapping[str, str]) -> dict[int, set[int]]:
    """Return the relevant documents of each query text; what a search finds may be relevant under another id."""
    found: dict[int, set[int]] = {}
    for query_id, (entries, _) in judged.items():
        found.setdefault(text_key(queries[query_id]), set()).update(entry.key for entry in entries if entry.grade > 0)
    return found


def _candidates(
    source: SourceConfig,
    first_stage: Callable[[], FirstStage] | None,
    queries: Mapping[str, str],
    corpus: CorpusIndex,
    judged: _Judged,
    skipped: BadLines,
) -> Iterator[tuple[str, list[Entry]]]:
    """Yield the judged queries that the first stage finds something for, each with what it finds."""
    if source.run == BM25:
        if first_stage is None:
            raise InputError(f"{source.path}: run: bm25 needs a first stage, and none was handed in")
        retriever = first_stage()
        retriever.index(corpus.documents())
        depth = source.depth + max((len(entries) for entries, _ in judged.values()), default=0)
        for query_id, found in retriever.search({query_id: queries[query_id] for query_id in judged}, depth=depth):
            yield query_id, [corpus.entry(candidate.document_id) for candidate in found]
    elif source.run is not None:
        yield from _run_candidates(source.run, corpus, judged, skipped)


def _run_candidates(
    path: str, corpus: CorpusIndex, judged: _Judged, skipped: BadLines
) -> Iterator[tuple[str, list[Entry]]]:
    wanted = set(judged)
    found = False
    for query in read_run(path, skipped=skipped):
        if query.query_id not in wanted:
            continue
        found = True
        scored: list[tuple[float, Entry]] = []
        for candidate, line in zip(query.candidates, query.lines, strict=True):
            try:
                scored.append((-candidate.score, corpus.entry(candidate.document_id)))
            except InputError as error:
                skipped.problems.add_row(error, display_name(path), line)
        yield query.query_id, [entry for _, entry in sorted(scored, key=itemgetter(0))]
    if not found:
        raise DataError("not a single query of the split is in this run", path=display_name(path))
