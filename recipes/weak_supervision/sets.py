"""Who is trained on and who is judged, by the texts of the queries, so that none is on two sides; and their files."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from crossrank.data.beir import open_corpus, read_queries
from crossrank.data.grade_files import Grades, read_grades
from crossrank.data.groups.sampling import hash_text
from crossrank.data.groups.store import text_key
from crossrank.data.new_folder import new_folder
from crossrank.data.qrels import read_qrels
from crossrank.data.run_writer import open_run_writer
from crossrank.data.trec import read_run
from crossrank.errors import InputError
from crossrank.retrieval.selection import open_retriever


class Judged(NamedTuple):
    """Labels of one side.

    Attributes:
        queries: Text by id.
        grades: By query and document id; what counts as not relevant has 0.
    """

    queries: dict[str, str]
    grades: Grades


def write_queries(folder: Path, clicks: Path, judged: Iterable[str], *, held_out: int, seed: int) -> None:
    """Part the queries of the click labels: `train.jsonl` with its qrels and labels, `held-out.jsonl` for an assessor.

    Texts of `judged` are on neither side, whatever their ids. Which others are held out depends on their texts alone.

    Raises:
        InputError: If no relevant pair is left to train on, or too few queries to hold out so many.
    """
    texts = read_queries(clicks / "queries.jsonl")
    relevant = read_qrels(clicks / "qrels" / "train.tsv") if texts else {}
    taken = set(map(text_key, judged))
    free = {query_id: text for query_id, text in texts.items() if text_key(text) not in taken}
    keys = sorted({text_key(text) for text in free.values()}, key=lambda key: hash_text(f"{seed}\0{key}"))
    if held_out > len(keys) // 2:
        raise InputError(f"the log has {len(keys)} labelled queries: --held-out {held_out} is more than half of them")
    chosen = set(keys[:held_out])
    train = {i: text for i, text in free.items() if text_key(text) not in chosen and relevant.get(i)}
    if not train:
        raise InputError(
            f"{clicks}/report.json: no query with a relevant document is left to train on; more of the log, a lower "
            "--min-impressions or --held-out may help"
        )
    kept_out = {text_key(text): (i, text) for i, text in reversed(free.items()) if text_key(text) in chosen}
    with new_folder(folder) as fresh:
        _write_jsonl(fresh / "train.jsonl", ({"_id": i, "text": text} for i, text in train.items()))
        _write_qrels(fresh / "train.tsv", {(i, d): 1 for i in train for d in relevant[i]})
        _write_jsonl(fresh / "held-out.jsonl", ({"_id": i, "text": text} for i, text in kept_out.values()))
        rows = map(json.loads, (clicks / "labels.jsonl").open(encoding="utf-8"))
        _write_jsonl(fresh / "labels.jsonl", (row for row in rows if row["query_id"] in train))
    print(
        f"{len(train)} queries to train on, {len(kept_out)} held out, {len(texts) - len(free)} left out because people "
        "have judged them",
        file=sys.stderr,
    )


def write_run(path: Path, queries: Path, corpus: Path, retriever: str, *, depth: int, language: str) -> None:
    """Search the corpus and write the candidates of every query as a TREC run."""
    search = open_retriever(retriever, language=language)
    with open_corpus(corpus) as documents, open_run_writer(path, settings={}, restart=True) as writer:
        search.index(documents)
        for query_id, candidates in search.search(read_queries(queries), depth=depth):
            writer.write(query_id, candidates)


def write_shown_groups(path: Path, labels: Path) -> None:
    """Write groups of the documents that were shown: the relevant ones, and the others as negatives."""
    groups: dict[str, dict[str, Any]] = {}
    for row in map(json.loads, labels.open(encoding="utf-8")):
        group = groups.setdefault(
            row["query_id"], {"query_id": row["query_id"], "query": row["query"], "positives": [], "negatives": []}
        )
        document = {key: row[key] for key in ("title", "document") if key in row}
        document["text"] = document.pop("document")
        group["positives" if row["relevant"] else "negatives"].append(document)
    part = path.with_name(path.name + ".part")
    _write_jsonl(part, groups.values())
    part.replace(path)


def read_labelled(queries: Path, grades: Path, *, relevant_from: int) -> Judged:
    """Read labels; lower grades than `relevant_from` become 0, and queries without a relevant document are left out."""
    texts, found = read_queries(queries), read_grades(grades)
    unknown = next((query_id for query_id, _ in found if query_id not in texts), None)
    if unknown is not None:
        raise InputError(f"{grades} judges query {unknown!r}, whose text is not in {queries}")
    cut = {pair: grade if grade >= relevant_from else 0 for pair, grade in found.items()}
    answered = {query_id for (query_id, _), grade in cut.items() if grade}
    if len(answered) < len({query_id for query_id, _ in found}):
        print(f"{grades}: {len({q for q, _ in found} - answered)} queries without a relevant document", file=sys.stderr)
    return Judged(
        {query_id: texts[query_id] for query_id in texts if query_id in answered},
        {pair: grade for pair, grade in cut.items() if pair[0] in answered},
    )


def judged_texts(queries: Path, grades: Path) -> set[str]:
    """Return the texts of the queries that somebody has judged."""
    texts = read_queries(queries)
    return {texts[query_id] for query_id, _ in read_grades(grades) if query_id in texts}


def parted(judged: Judged, num: int, *, seed: int) -> tuple[Judged, Judged]:
    """Part labels by query: about `num` queries, at most half of them, and the others; equal texts go together."""
    keys = sorted(
        {text_key(text) for text in judged.queries.values()}, key=lambda key: hash_text(f"{seed}\0dev\0{key}")
    )
    first = set(keys[: min(num, len(keys) // 2)])
    sides = []
    for wanted in (True, False):
        queries = {i: text for i, text in judged.queries.items() if (text_key(text) in first) is wanted}
        sides.append(Judged(queries, {pair: grade for pair, grade in judged.grades.items() if pair[0] in queries}))
    return sides[0], sides[1]


def write_judged(folder: Path, corpus: Path, dev: Judged, test: Judged, run: Path | None) -> None:
    """Write a BEIR folder with the splits dev and test, and `judged.trec`: of a run, what is judged.

    Raises:
        InputError: If a side has no query.
    """
    for name, side in (("select the checkpoint on", dev), ("report on", test)):
        if not side.queries:
            raise InputError(f"no judged query with a relevant document to {name}")
    with new_folder(folder) as fresh:
        (fresh / "qrels").mkdir()
        _link(fresh / ("corpus.jsonl.gz" if corpus.suffix == ".gz" else "corpus.jsonl"), corpus)
        queries = dev.queries | test.queries
        _write_jsonl(fresh / "queries.jsonl", ({"_id": i, "text": text} for i, text in queries.items()))
        for name, side in (("dev", dev), ("test", test)):
            _write_qrels(fresh / "qrels" / f"{name}.tsv", side.grades)
        if run:
            _write_judged_part(fresh / "judged.trec", run, dev.grades | test.grades)


def _write_judged_part(path: Path, run: Path, grades: Grades) -> None:
    with open_run_writer(path, settings={}) as writer:
        for query in read_run(run):
            known = [candidate for candidate in query.candidates if (query.query_id, candidate.document_id) in grades]
            if known:
                writer.write(query.query_id, known)


def _link(path: Path, target: Path) -> None:
    try:
        path.symlink_to(target.resolve())
    except OSError:  # a file system, or a user, without links
        shutil.copyfile(target, path)


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_qrels(path: Path, grades: Mapping[tuple[str, str], int]) -> None:
    lines = (f"{query_id}\t{document_id}\t{grade}\n" for (query_id, document_id), grade in grades.items())
    path.write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
