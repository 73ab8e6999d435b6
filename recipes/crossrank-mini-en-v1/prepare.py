"""Mine training groups of one positive and seven negatives, each with a BM25 + bi-encoder teacher score.

Negatives: three from BM25's top 30, two from the bi-encoder's top 30, one from ranks 30 to 100 of either, one at
random. Never a document of the dev split, never one with the positive's own text, and where the query is not a person's
question never one that the bi-encoder finds nearly as close as the positive (there it may well be relevant too).
The first round has the collections' own queries, the second also some that are made from documents (`made_queries.py`).

    python prepare.py --data DATA --embeddings WORK/embeddings --round 1 --out WORK/groups-1.jsonl
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import bm25s
import numpy as np
import Stemmer

from collections_en import HUMAN, TRAINING, Collection, load_collection
from embed import MAX_TOKENS_TRAINING, BiEncoder
from made_queries import Keywords, span_query

NUM_NEGATIVES = 7
DEPTH = 150  # candidates of each retriever that are looked at
HUMAN_WEIGHT = 2.0  # a human question counts as two weak pairs
FALSE_NEGATIVE_RATIO = 0.95  # Source: NV-Retriever (arXiv 2407.15831), TopK-PercPos


@dataclass(frozen=True)
class Round:
    """How many groups of which kind a round has."""

    num_labelled: int
    num_spans: int
    num_keywords: int
    seed: int


ROUNDS = {1: Round(24_000, 0, 0, seed=20), 2: Round(13_000, 4_600, 2_000, seed=21)}


def group_counts(sizes: dict[str, int], num_groups: int) -> dict[str, int]:
    """Share the groups out by the square root of a set's size, human questions first; no query twice."""
    weights = {name: (HUMAN_WEIGHT if name in HUMAN else 1.0) * size**0.5 for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: min(sizes[name], round(num_groups * weight / total)) for name, weight in weights.items()}


def standardise(scores: np.ndarray, pool: np.ndarray) -> np.ndarray:
    """Return z-scores over the pooled candidates, so that BM25 and cosine add up on one scale."""
    values = scores[pool]
    return (scores - values.mean()) / (values.std() + 1e-6)


def best_rows(scores: np.ndarray, depth: int) -> np.ndarray:
    """Return the rows of the highest scores, best first."""
    depth = min(depth, len(scores))
    rows = np.argpartition(-scores, depth - 1)[:depth]
    return rows[np.argsort(-scores[rows], kind="stable")]


class Miner:
    """Candidates and teacher scores for the queries of one collection."""

    def __init__(self, name: str, collection: Collection, embeddings: Path) -> None:
        self.name, self.collection = name, collection
        stored = np.load(embeddings / f"{name}.npz")
        self.docs, self.queries = stored["docs"].astype(np.float32), stored["queries"].astype(np.float32)
        self.stemmer = Stemmer.Stemmer("english")
        self.bm25 = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        self.bm25.index(self._tokens(collection.doc_texts), show_progress=False)
        self.row = {doc_id: i for i, doc_id in enumerate(collection.doc_ids)}
        self.allowed = np.array([split != "dev" for split in collection.doc_split])
        self.keywords = Keywords(collection.doc_texts)

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False, return_ids=False)

    def labelled(self, query_rows: np.ndarray, rng: np.random.Generator) -> list[dict]:
        """Return one group for each of the collection's own queries; those with too few candidates are left out."""
        texts = [self.collection.query_texts[row] for row in query_rows]
        positives = [
            [self.row[d] for d in self.collection.qrels["train"][self.collection.query_ids[row]]] for row in query_rows
        ]
        wanted = [{"kind": "labelled"}] * len(texts)
        return self._groups(texts, self.queries[query_rows], positives, wanted, rng)

    def made(self, kind: str, count: int, encoder: BiEncoder, rng: np.random.Generator) -> list[dict]:
        """Return up to `count` groups whose queries are made from documents: `kind` is "span" or "keywords"."""
        texts, positives, extras = [], [], []
        for row in rng.permutation(np.flatnonzero(self.allowed)):
            if len(texts) == count:
                break
            document = self.collection.doc_texts[row]
            if kind == "span":
                found = span_query(document, rng)
                if found:
                    texts.append(found[0])
                    extras.append({"kind": kind, "positive_text": found[1]})
                    positives.append([int(row)])
            elif keywords := self.keywords.query(document, rng):
                texts.append(keywords)
                extras.append({"kind": kind})
                positives.append([int(row)])
        vectors = encoder.encode(texts, max_tokens=MAX_TOKENS_TRAINING).astype(np.float32)
        return self._groups(texts, vectors, positives, extras, rng)

    def _groups(
        self,
        texts: list[str],
        vectors: np.ndarray,
        positives: list[list[int]],
        extras: list[dict],
        rng: np.random.Generator,
    ) -> list[dict]:
        mined = []
        for start in range(0, len(texts), 256):
            block = slice(start, start + 256)
            similarities = vectors[block] @ self.docs.T
            for text, dense, known, extra in zip(
                texts[block], similarities, positives[block], extras[block], strict=True
            ):
                group = self._group(
                    text, dense, known, trusted=self.name in HUMAN and extra["kind"] == "labelled", rng=rng
                )
                mined += [{"set": self.name, "query": text} | extra | group] if group else []
        return mined

    def _group(
        self, query: str, dense: np.ndarray, positives: list[int], *, trusted: bool, rng: np.random.Generator
    ) -> dict | None:
        words = self._tokens([query])[0]
        sparse = self.bm25.get_scores(words) if words else np.zeros(len(self.docs), np.float32)
        positive = int(rng.choice(positives))
        usable = self.allowed.copy()
        usable[positives] = False
        if not trusted:
            usable &= dense < FALSE_NEGATIVE_RATIO * dense[positive]
        top_sparse, top_dense = best_rows(sparse, DEPTH), best_rows(dense, DEPTH)
        by_sparse = top_sparse[usable[top_sparse] & (sparse[top_sparse] > 0)]
        by_dense = top_dense[usable[top_dense]]
        pools = [(by_sparse[:30], 3), (by_dense[:30], 2), (np.concatenate([by_sparse[30:100], by_dense[30:100]]), 1)]
        taken = {self.collection.doc_texts[row] for row in positives}
        chosen: list[int] = []
        for pool, count in [*pools, (np.flatnonzero(usable), NUM_NEGATIVES)]:
            wanted = min(count, NUM_NEGATIVES - len(chosen))
            for row in rng.choice(pool, min(len(pool), 4 * wanted), replace=False):
                if wanted > 0 and self.collection.doc_texts[row] not in taken:
                    chosen.append(int(row))
                    taken.add(self.collection.doc_texts[row])
                    wanted -= 1
        if len(chosen) < NUM_NEGATIVES:
            return None
        pool = np.union1d(top_sparse[:100], top_dense[:100])
        teacher = standardise(sparse, pool) + standardise(dense, pool)
        rows = [positive, *chosen]
        return {"docs": rows, "teacher": [round(float(teacher[row]), 4) for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--round", type=int, choices=sorted(ROUNDS), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    planned = ROUNDS[args.round]
    collections = {name: load_collection(args.data / name) for name in TRAINING}
    by_queries = {name: len(c.qrels["train"]) for name, c in collections.items()}
    by_documents = {name: len(c.doc_ids) for name, c in collections.items()}
    num_labelled = group_counts(by_queries, planned.num_labelled)
    num_made = {
        "span": group_counts(by_documents, planned.num_spans),
        "keywords": group_counts(by_documents, planned.num_keywords),
    }
    rng = np.random.default_rng(planned.seed)
    encoder = BiEncoder(args.threads)
    groups = []
    for name, collection in collections.items():
        miner = Miner(name, collection, args.embeddings)
        rows = [i for i, q in enumerate(collection.query_ids) if q in collection.qrels["train"]]
        mined = miner.labelled(rng.permutation(rows)[: num_labelled[name]], rng)
        for kind, counts in num_made.items():
            mined += miner.made(kind, counts[name], encoder, rng)
        groups += mined
        print(f"{name}: {len(mined)} groups", flush=True)
    order = rng.permutation(len(groups))
    temporary = args.out.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(groups[i]) + "\n" for i in order)
    temporary.rename(args.out)
    print(f"{len(groups)} groups in {args.out}")


if __name__ == "__main__":
    main()
