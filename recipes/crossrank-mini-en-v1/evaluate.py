"""Rerank BM25's top 100 of the English dev sets and print nDCG@10 beside BM25, the bi-encoder and their fusions.

The scores of every candidate are kept in `OUT`, one JSON file a set, so that fusion and calibration are fitted without
scoring again and an interrupted run goes on with the next set; `OUT/table.json` holds the figures.

    python evaluate.py --data DATA --embeddings WORK/embeddings --model FOLDER --out WORK/scores
        [--sets left-out|all] [--num-queries 100] [--dtype auto]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import ir_measures
import numpy as np

from collections_en import ENGLISH_SETS, LEFT_OUT, load_collection, load_run
from crossrank import Reranker
from crossrank.retrieval.fusion import fuse

SEED = 20


def candidates(data: Path, embeddings: Path, name: str, num_queries: int) -> list[dict]:
    """Return a seeded sample of a set's dev queries with BM25's candidates and the scores of both retrievers.

    A query without any candidate stays in, with empty lists: it counts as 0 for every system.
    """
    collection, run = load_collection(data / name), load_run(data / name / "run.bm25.trec.gz")
    stored = np.load(embeddings / f"{name}.npz")
    docs, queries = stored["docs"].astype(np.float32), stored["queries"].astype(np.float32)
    doc_row = {doc_id: i for i, doc_id in enumerate(collection.doc_ids)}
    query_row = {query_id: i for i, query_id in enumerate(collection.query_ids)}
    ids = sorted(collection.qrels["dev"])
    chosen = sorted(np.random.default_rng(SEED).permutation(ids)[:num_queries])
    rows = []
    for query_id in chosen:
        found = run.get(query_id, {})
        cosine = docs[[doc_row[d] for d in found]] @ queries[query_row[query_id]]
        rows.append(
            {
                "id": str(query_id),
                "query": collection.query_texts[query_row[query_id]],
                "docs": list(found),
                "texts": [collection.doc_texts[doc_row[d]] for d in found],
                "qrels": collection.qrels["dev"][query_id],
                "bm25": list(found.values()),
                "bi_encoder": [float(c) for c in cosine],
            }
        )
    return rows


def ndcg(rows: list[dict], system: str | None = None, *, fused: tuple[str, str, str, float] | None = None) -> float:
    """Return the mean nDCG@10 of one score list, or of a fusion `(reranker, first stage, method, weight)`."""
    run, qrels = [], []
    for row in rows:
        scores = np.array(row[system]) if system else np.zeros(0)
        if fused and row["docs"]:
            reranker, first_stage, method, weight = fused
            scores = fuse(row[reranker], row[first_stage], method=method, weight=weight)
        order = np.argsort(-scores, kind="stable")
        # Ranks, not scores: every measure then sees the one order of the tie rule.
        run += [ir_measures.ScoredDoc(row["id"], row["docs"][i], -rank) for rank, i in enumerate(order)]
        qrels += [ir_measures.Qrel(row["id"], doc, grade) for doc, grade in row["qrels"].items()]
    return float(ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)[ir_measures.nDCG @ 10])


def table(sets: dict[str, list[dict]], fusion: tuple[str, float]) -> list[dict]:
    """Return one row of figures a set, and the mean of the left-out sets last."""
    method, weight = fusion
    rows = []
    for name, queries in sets.items():
        figures = {
            "bm25": ndcg(queries, "bm25"),
            "bi_encoder": ndcg(queries, "bi_encoder"),
            "bm25+bi_encoder": ndcg(queries, fused=("bi_encoder", "bm25", "zscore", 0.5)),
            "reranker": ndcg(queries, "reranker"),
            "reranker+bm25": ndcg(queries, fused=("reranker", "bm25", method, weight)),
        }
        rows.append({"set": name, "left_out": name in LEFT_OUT, "queries": len(queries)} | figures)
    left_out = [row for row in rows if row["left_out"]]
    if left_out:
        mean = {key: float(np.mean([row[key] for row in left_out])) for key in list(left_out[0])[3:]}
        rows.append(
            {"set": "mean of left out", "left_out": True, "queries": sum(r["queries"] for r in left_out)} | mean
        )
    return rows


def print_table(rows: list[dict]) -> None:
    names = list(rows[0])[3:]
    print(f"{'set':24s} {'queries':>7s} " + " ".join(f"{name:>15s}" for name in names))
    for row in rows:
        mark = "*" if row["left_out"] else " "
        print(f"{row['set']:23s}{mark} {row['queries']:7d} " + " ".join(f"{row[name]:15.4f}" for name in names))


def write_json(path: Path, value: object) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(value), encoding="utf-8")
    temporary.rename(path)


def read_scores(folder: Path) -> dict[str, list[dict]]:
    """Return the scored sets of a folder that this script wrote, in the order of `ENGLISH_SETS`."""
    files = {name: folder / f"{name}.json" for name in ENGLISH_SETS}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embeddings", type=Path, required=True)
    parser.add_argument("--model", type=Path, help="a folder; the shipped model if left out")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", choices=("left-out", "all"), default="all")
    parser.add_argument("--num-queries", type=int, default=100)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--max-length", type=int)
    args = parser.parse_args()
    reranker = Reranker.load(args.model, dtype=args.dtype, backend=args.backend, max_length=args.max_length)
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    for name in LEFT_OUT if args.sets == "left-out" else ENGLISH_SETS:
        if (args.out / f"{name}.json").exists():
            continue
        rows = candidates(args.data, args.embeddings, name, args.num_queries)
        scores = reranker.score([(row["query"], text) for row in rows for text in row.pop("texts")]).tolist()
        for row in rows:
            row["reranker"], scores = scores[: len(row["docs"])], scores[len(row["docs"]) :]
        write_json(args.out / f"{name}.json", rows)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    sets = read_scores(args.out)
    fusion = reranker.checkpoint.settings.fusion
    figures = table(sets, (fusion.method, fusion.weight) if fusion else ("zscore", 0.5))
    write_json(args.out / "table.json", figures)
    print_table(figures)


if __name__ == "__main__":
    main()
