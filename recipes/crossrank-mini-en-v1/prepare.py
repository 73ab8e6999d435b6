"""Mine training groups of one positive and seven negatives, each with a BM25 + bi-encoder teacher score.

Negatives: three from BM25's top 30, two from the bi-encoder's top 30, one from ranks 30 to 100 of either, one at
random. Never a document of the dev split, never one with the positive's own text, and in the weak sets never one that
the bi-encoder finds nearly as close as the positive (there it may well be relevant too).

    python prepare.py --data DATA --embeddings WORK/embeddings --out WORK/groups.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import bm25s
import numpy as np
import Stemmer

from collections_en import HUMAN, TRAINING, Collection, load_collection

NUM_GROUPS = 24_000
NUM_NEGATIVES = 7
DEPTH = 150  # candidates of each retriever that are looked at
HUMAN_WEIGHT = 2.0  # a human question counts as two weak pairs
FALSE_NEGATIVE_RATIO = 0.95  # Source: NV-Retriever (arXiv 2407.15831), TopK-PercPos
SEED = 20


def group_counts(sizes: dict[str, int]) -> dict[str, int]:
    """Share the groups out by the square root of a set's size, human questions first; no query twice."""
    weights = {name: (HUMAN_WEIGHT if name in HUMAN else 1.0) * size**0.5 for name, size in sizes.items()}
    total = sum(weights.values())
    return {name: min(sizes[name], round(NUM_GROUPS * weight / total)) for name, weight in weights.items()}


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

    def _tokens(self, texts: list[str]) -> list[list[str]]:
        return bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False, return_ids=False)

    def groups(self, query_rows: np.ndarray, rng: np.random.Generator) -> list[dict]:
        """Return one group a query; queries that have too few candidates are left out."""
        mined = []
        for start in range(0, len(query_rows), 256):
            block = query_rows[start : start + 256]
            similarities = self.queries[block] @ self.docs.T
            mined += [self._group(int(row), dense, rng) for row, dense in zip(block, similarities, strict=True)]
        return [group for group in mined if group]

    def _group(self, query_row: int, dense: np.ndarray, rng: np.random.Generator) -> dict | None:
        query_id = self.collection.query_ids[query_row]
        positives = [self.row[d] for d in self.collection.qrels["train"][query_id]]
        words = self._tokens([self.collection.query_texts[query_row]])[0]
        sparse = self.bm25.get_scores(words) if words else np.zeros(len(self.docs), np.float32)
        positive = int(rng.choice(positives))
        usable = self.allowed.copy()
        usable[positives] = False
        if self.name not in HUMAN:
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
        return {
            "set": self.name,
            "query": query_row,
            "docs": rows,
            "teacher": [round(float(teacher[row]), 4) for row in rows],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    collections = {name: load_collection(args.data / name) for name in TRAINING}
    counts = group_counts({name: len(c.qrels["train"]) for name, c in collections.items()})
    rng = np.random.default_rng(SEED)
    groups = []
    for name, collection in collections.items():
        miner = Miner(name, collection, args.embeddings)
        rows = [i for i, q in enumerate(collection.query_ids) if q in collection.qrels["train"]]
        mined = miner.groups(rng.permutation(rows)[: counts[name]], rng)
        groups += mined
        print(f"{name}: {len(mined)} groups of {len(rows)} queries", flush=True)
    order = rng.permutation(len(groups))
    temporary = args.out.with_suffix(".part")
    with temporary.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(groups[i]) + "\n" for i in order)
    temporary.rename(args.out)
    print(f"{len(groups)} groups in {args.out}")


if __name__ == "__main__":
    main()
