"""A click log with known relevance over real text: users of `crossrank.mining.click_simulator` before BM25's pages.

    python recipes/weak_supervision/simulate.py --data BEIR -o log.jsonl --severity 1.5 --shuffle 0.2

BEIR is any folder with corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv (each also as .gz). Each page has BM25's first
documents for a query of the split, in its order or, on a share of the pages, shuffled. The judgements decide what the
users find relevant, and nothing of them is written.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossrank.data.beir import open_beir
from crossrank.data.click_logs import ResultPage
from crossrank.errors import RerankError
from crossrank.mining.click_simulator import NOISE, simulate_clicks
from crossrank.retrieval.bm25 import BM25


def main() -> None:
    options = read_options()
    if options.output.exists():
        sys.exit(f"Error: {options.output} is there already: give another name, or delete it")
    try:
        pages = simulate(options)
        part = options.output.with_name(options.output.name + ".part")
        with part.open("w", encoding="utf-8") as log:
            log.writelines(json.dumps(row(page), ensure_ascii=False) + "\n" for page in pages)
    except RerankError as error:
        sys.exit(f"Error: {error}")
    part.replace(options.output)
    print(f"{options.pages} pages: {options.output}", file=sys.stderr)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder in BEIR layout")
    parser.add_argument("--split", default="train", help="whose queries are asked (train)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the log to write: JSONL")
    parser.add_argument("--pages", type=int, default=20000, help="result pages (20000)")
    parser.add_argument("--shown", type=int, default=10, help="documents a page (10)")
    parser.add_argument("--severity", type=float, default=1.0, help="of the position bias: 1 / rank ** severity (1)")
    parser.add_argument("--noise", type=float, default=NOISE, help=f"clicks on what is not relevant ({NOISE})")
    parser.add_argument("--shuffle", type=float, default=0.2, help="share of pages in random order (0.2)")
    parser.add_argument("--user", choices=("pbm", "cascade"), default="pbm", help="how a page is read (pbm)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def simulate(options: argparse.Namespace) -> Iterator[ResultPage]:
    """Return the pages; everything is read before the first one is asked for."""
    with open_beir(options.data, split=options.split) as data:
        retriever = BM25()
        retriever.index(data.corpus)
        queries = {query_id: data.queries[query_id] for query_id in data.qrels}
        found = retriever.search(queries, depth=options.shown)
        rankings = {query_id: [document for document, _ in candidates] for query_id, candidates in found}
        return simulate_clicks(
            {query_id: documents for query_id, documents in rankings.items() if documents},
            data.qrels,
            queries=queries,
            num_pages=options.pages,
            severity=options.severity,
            noise=options.noise,
            shuffle=options.shuffle,
            user=options.user,
            seed=options.seed,
        )


def row(page: ResultPage) -> dict[str, Any]:
    """Return a page as `crossrank label clicks` reads it."""
    clicks = [{"id": shown.document_id, "dwell_s": shown.dwell_s} for shown in page.impressions if shown.clicked]
    documents = [shown.document_id for shown in page.impressions]
    head = {"session": page.session, "query_id": page.query_id, "query": page.query}
    return head | {"documents": documents, "clicks": clicks}


if __name__ == "__main__":
    main()
