"""Rank the paragraphs of the handbook beside this file for a question: `python rerank_handbook.py [QUESTION]`."""

import sys
from pathlib import Path

from crossrank import Reranker
from crossrank.data.documents import read_documents

QUESTION = "How long do I have to hand in my receipts after a trip?"


def main(question: str = QUESTION) -> None:
    documents = list(read_documents([Path(__file__).with_name("handbook")]))
    reranker = Reranker.load()
    ranking = reranker.rank(question, documents, top_k=3)
    print(ranking)
    best = ranking[0].document
    print(f"\nThe best of {len(documents)} paragraphs, from {Path(best.id or '').name}, under {best.title!r}:\n")
    print(best.text)


if __name__ == "__main__":
    main(*sys.argv[1:2])
