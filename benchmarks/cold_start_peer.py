"""What `crossrank rerank` does, with sentence-transformers: `python cold_start_peer.py MODEL PASSAGES.jsonl`."""

import json
import sys
from pathlib import Path

from sentence_transformers import CrossEncoder

passages = [json.loads(line)["text"] for line in Path(sys.argv[2]).read_text(encoding="utf-8").splitlines()]
for hit in CrossEncoder(sys.argv[1], device="cpu").rank("Why is Mars red?", passages, top_k=3):
    print(hit["corpus_id"], hit["score"])
