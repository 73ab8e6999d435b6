"""The English collections of the recipe, in BEIR layout, and which of them never enter training."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass
from pathlib import Path

# Whole collections of different kinds that training never sees. The checkpoint and the fusion weights are chosen on
# them: biomedical questions, community technical questions, customer support, financial tables and law.
LEFT_OUT = ("covid-qa", "tech-qa", "office-support", "tatqa", "dc-code")

# Written by people as questions; the others are weak pairs made from the structure of documents.
HUMAN = (
    "squadshifts-wiki",
    "squadshifts-reddit",
    "medquad",
    "bitcoinops",
    "wikitablequestions",
    "fetaqa",
    "pubmedqa",
    "fairytaleqa",
)
WEAK = (
    "tldr-pages",
    "code-functions",
    "powershell-docs",
    "cpp-docs",
    "php-docs",
    "web-docs",
    "business-central-docs",
    "design-specs",
    "digitalgov",
)
TRAINING = HUMAN + WEAK
ENGLISH_SETS = LEFT_OUT + TRAINING


@dataclass(frozen=True)
class Collection:
    """One BEIR folder; positions in `doc_texts` and `query_texts` are the order of the files."""

    doc_ids: list[str]
    doc_texts: list[str]
    query_ids: list[str]
    query_texts: list[str]
    doc_split: list[str]  # "train", "dev" or "" where the corpus does not say
    qrels: dict[str, dict[str, dict[str, int]]]  # split -> query id -> document id -> grade


def load_collection(folder: Path) -> Collection:
    """Read corpus, queries and qrels of one collection."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        docs = [json.loads(line) for line in lines]
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        queries = [json.loads(line) for line in lines]
    qrels: dict[str, dict[str, dict[str, int]]] = {}
    for path in sorted((folder / "qrels").glob("*.tsv")):
        split = qrels.setdefault(path.stem, {})
        with path.open(encoding="utf-8", newline="") as handle:
            for row in csv.DictReader(handle, delimiter="\t"):
                split.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return Collection(
        doc_ids=[d["_id"] for d in docs],
        doc_texts=[f"{d.get('title') or ''} {d['text']}".strip() for d in docs],
        query_ids=[q["_id"] for q in queries],
        query_texts=[q["text"] for q in queries],
        doc_split=[(d.get("metadata") or {}).get("split", "") for d in docs],
        qrels=qrels,
    )


def load_run(path: Path) -> dict[str, dict[str, float]]:
    """Read a TREC run: query id -> document id -> score."""
    run: dict[str, dict[str, float]] = {}
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            query, _, doc, _, score, _ = line.split()
            run.setdefault(query, {})[doc] = float(score)
    return run
