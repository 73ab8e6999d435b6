"""crossrank and sentence-transformers on this GPU, side by side: pairs a second and model FLOP utilisation.

Two shapes with random weights, each on a realistic mix of lengths and on long documents. Both libraries score the same
texts with the same weights in one process; they take turns, and medians count. Without a GPU the same runs with small
shapes in float32.

    python benchmarks/gpu.py [--device auto] [--rounds 5] [--shapes llama-1b minilm] [--json OUT] [--quick]
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from crossrank import Reranker
from crossrank.inference.export import kendall_tau
from crossrank.models.bidirectional import as_bidirectional_classifier
from crossrank.models.bidirectional_layout import HeadSettings
from crossrank.models.checkpoint import load_encoder, open_checkpoint
from crossrank.models.onednn import make_linear
from crossrank.models.saving import save_checkpoint
from crossrank.models.settings import CheckpointSettings
from workload import make

Pairs = list[tuple[str, str]]
OURS, PEER = "crossrank", "sentence-transformers"


@dataclass(frozen=True)
class Shape:
    """Sizes of a model; the head is one label.

    Attributes:
        kind: `"llama"`, made bidirectional with mean pooling, or `"bert"`.
        sizes: For the configuration of transformers.
    """

    kind: str
    sizes: dict[str, Any]

    def build(self, folder: Path) -> None:
        """Save a checkpoint that both libraries load; scores are spread by a head with a deviation of 1."""
        torch.manual_seed(0)
        settings = CheckpointSettings(activation="identity", max_length=self.sizes["max_position_embeddings"])
        tokenizer = BertTokenizer.from_pretrained(open_checkpoint(None).folder)
        if self.kind == "bert":
            model: Any = BertForSequenceClassification(BertConfig(**self.sizes, num_labels=1))
            model.classifier.weight.data.normal_()
        else:
            config = LlamaConfig(**self.sizes, num_labels=1, pad_token_id=tokenizer.pad_token_id, is_causal=False)
            model = LlamaForSequenceClassification._from_config(config, dtype=torch.bfloat16)
            model.score.weight.data.normal_()
            model = as_bidirectional_classifier(model, HeadSettings("avg", 1.0))
        save_checkpoint(folder, model=model.eval(), tokenizer=tokenizer, settings=settings)

    def flops(self, lengths: np.ndarray) -> float:
        """Return the floating-point operations of one whole forward pass over real tokens, nothing left out.

        Two for each weight of a linear layer and token, and four for each hidden unit, layer, token and token it sees.
        """
        sizes = self.sizes
        hidden, wide, layers = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_hidden_layers"]
        shared = sizes["num_attention_heads"] // sizes.get("num_key_value_heads", sizes["num_attention_heads"])
        weights = 2 * hidden**2 * (1 + 1 / shared) + hidden * wide * (3 if self.kind == "llama" else 2)
        return float(layers * (2 * weights * lengths.sum() + 4 * hidden * (lengths.astype(float) ** 2).sum()))


# Source: config.json of meta-llama/Llama-3.2-1B and of cross-encoder/ms-marco-MiniLM-L6-v2; more positions for the
# long documents, and no vocabulary head.
_LLAMA_1B = {
    "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 8192, "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": True,
    "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
}  # fmt: skip
_MINILM = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "vocab_size": 30522, "max_position_embeddings": 8192,
}  # fmt: skip
_LLAMA_SMALL = _LLAMA_1B | {
    "hidden_size": 384, "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2,
    "intermediate_size": 1536, "vocab_size": 30522,
}  # fmt: skip
GPU_SHAPES = {"llama-1b": Shape("llama", _LLAMA_1B), "minilm": Shape("bert", _MINILM)}
CPU_SHAPES = {"llama-small": Shape("llama", _LLAMA_SMALL), "minilm": Shape("bert", _MINILM)}


@dataclass(frozen=True)
class Scale:
    """How much is scored: queries and passages of the mix, long documents and their length in tokens, batch sizes."""

    mix: tuple[int, int]
    long: tuple[int, int]
    peer_batch_sizes: tuple[int, ...]


GPU_SCALE = Scale((64, 64), (128, 4096), (32, 128))
CPU_SCALE = Scale((1, 64), (2, 1024), (32, 8))
QUICK_SCALE = Scale((1, 6), (2, 64), (32,))


def make_workloads(scale: Scale) -> dict[str, Pairs]:
    """Return texts: `mix`, about 120 tokens with a tail to 512, and `long`, documents of about equal length."""
    mix = [(query, passage) for query, passages in make(*scale.mix, seed=8) for passage in passages]
    count, num_tokens = scale.long
    # A word of the workload is 1.1 tokens of MiniLM's vocabulary on average.
    words = " ".join(passage for _, passages in make(8, 200, seed=9) for passage in passages).split()
    num_words = int(num_tokens / 1.1)
    starts = [row * 997 % (len(words) - num_words) for row in range(count)]
    return {"mix": mix, "long": [(mix[0][0], " ".join(words[at : at + num_words])) for at in starts]}


def load_peer(folder: Path, device: str, dtype: torch.dtype) -> Callable[..., np.ndarray]:
    from sentence_transformers import CrossEncoder

    kwargs = {"dtype": dtype, "attn_implementation": "sdpa"}
    encoder = CrossEncoder(str(folder), device=device, model_kwargs=kwargs)
    options: dict[str, Any] = {"activation_fn": torch.nn.Identity(), "show_progress_bar": False}
    return lambda pairs, batch_size: np.asarray(encoder.predict(pairs, batch_size=batch_size, **options))


def matmul_ceiling(device: str, dtype: torch.dtype) -> float:
    """Return the FLOP a second of this device's best large matrix product, in the precision of the models."""
    is_gpu = device.startswith("cuda")
    best = 0.0
    for size in (4096, 8192, 16384) if is_gpu else (1024, 2048):
        x, weight = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        product = partial(torch.mm, x, weight) if is_gpu else partial(make_linear(weight, None), x)
        best = max(best, *(2 * size**3 / timed(product, device) for _ in range(6)))
    return best


def timed(action: Callable[[], Any], device: str) -> float:
    """Return the seconds until the device has finished."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    began = time.perf_counter()
    action()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - began


def measure(shape: Shape, folder: Path, workloads: dict[str, Pairs], device: str, args: Any) -> list[dict[str, Any]]:
    """Score every workload with every contender in turns, and return one row a workload and contender."""
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    reranker = Reranker.load(folder, backend="torch", device=device)
    encoder = load_encoder(reranker.checkpoint)
    contenders: dict[str, Callable[[Pairs], np.ndarray]] = {OURS: lambda pairs: np.asarray(reranker.score(pairs))}
    peer = load_peer(folder, device, dtype)
    for batch_size in args.scale.peer_batch_sizes:
        contenders[f"{PEER}, batch {batch_size}"] = partial(peer, batch_size=batch_size)
    rows = []
    for key, pairs in workloads.items():
        encoded = encoder.encode(pairs)
        actions = {name: partial(score, pairs) for name, score in contenders.items()}
        actions[f"{OURS}, tokenised before"] = partial(reranker.engine.logits, encoded)
        scores = {name: np.ravel(action()).astype(np.float32) for name, action in actions.items()}  # the warm-up
        seconds: dict[str, list[float]] = {name: [] for name in actions}
        for _ in range(args.rounds):
            for name, action in actions.items():
                seconds[name].append(timed(action, device))
        rows += report(shape, key, encoded.lengths, seconds, scores)
    return rows


def report(
    shape: Shape, key: str, lengths: np.ndarray, seconds: dict[str, list[float]], scores: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return a row for each engine; ratios and differences are against the peer with its default batch size."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    peers = [name for name in medians if name.startswith(PEER)]
    flops, default = shape.flops(lengths), medians[peers[0]]
    return [
        {
            "workload": key,
            "engine": name,
            "pairs": len(lengths),
            "mean_tokens": float(lengths.mean()),
            "pairs_per_s": len(lengths) / median,
            "x_default_peer": default / median,
            "x_best_peer": min(medians[peer] for peer in peers) / median,
            "tflops": flops / median / 1e12,
            "spread": (max(seconds[name]) - min(seconds[name])) / median,
            "max_abs": float(np.abs(scores[name] - scores[peers[0]]).max()),
            "tau": kendall_tau(scores[name], scores[peers[0]]),
        }
        for name, median in medians.items()
    ]


def print_report(rows: list[dict[str, Any]], facts: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{facts['device']}, {facts['precision']}; ceiling {facts['ceiling_tflops']:.3g} TFLOP/s")
    for column in rows[0]:
        is_text = column in ("shape", "workload", "engine")
        table.add_column(column.replace("_", " "), justify="left" if is_text else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row.values()))
    console.print(table)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="on a CPU")
    parser.add_argument("--shapes", nargs="+", help="only these")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="a few pairs: does it run at all?")
    args = parser.parse_args()
    if args.device == "auto":
        args.device = "cuda" if torch.cuda.is_available() else "cpu"
    is_gpu = args.device.startswith("cuda")
    args.scale = QUICK_SCALE if args.quick else GPU_SCALE if is_gpu else CPU_SCALE
    args.rounds = 1 if args.quick else args.rounds
    known = GPU_SHAPES if is_gpu else CPU_SHAPES
    unknown = set(args.shapes or ()) - known.keys()
    if unknown:
        parser.error(f"no shape {', '.join(sorted(unknown))} on this device; known are {', '.join(known)}")
    args.shapes = {name: shape for name, shape in known.items() if name in (args.shapes or known)}
    return args


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    console = Console(width=220 if not sys.stdout.isatty() else None)
    is_gpu = args.device.startswith("cuda")
    dtype = torch.bfloat16 if is_gpu else torch.float32
    facts: dict[str, Any] = {
        "device": torch.cuda.get_device_name(args.device) if is_gpu else f"CPU, {args.threads} threads",
        "precision": str(dtype).removeprefix("torch."),
        "ceiling_tflops": matmul_ceiling(args.device, dtype) / 1e12,
        "rounds": args.rounds,
        "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers")},
    }
    workloads = make_workloads(args.scale)
    rows: list[dict[str, Any]] = []
    for name, shape in args.shapes.items():
        with tempfile.TemporaryDirectory() as temporary:
            shape.build(Path(temporary) / name)
            for row in measure(shape, Path(temporary) / name, workloads, args.device, args):
                rows.append({"shape": name} | row | {"mfu": row["tflops"] / facts["ceiling_tflops"]})
        gc.collect()
        if is_gpu:
            torch.cuda.empty_cache()
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "facts": facts}, indent=2) + "\n", encoding="utf-8")
    print_report(rows, facts, console)


if __name__ == "__main__":
    main()
