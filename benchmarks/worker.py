"""One engine in one process: reads commands as JSON lines, answers with times and scores. `cpu.py` starts it.

python worker.py CONTENDER MODEL_FOLDER THREADS      CONTENDER as in cpu.CONTENDERS
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Score = Callable[[list[list[str]]], list[float]]


def load_crossrank(options: dict[str, Any], threads: int) -> Score:
    from crossrank import Reranker

    reranker = Reranker.load(**options, num_threads=threads)
    return lambda pairs: reranker.score(pairs).tolist()


def load_sentence_transformers(options: dict[str, Any], model: str, threads: int) -> Score:
    import torch
    from sentence_transformers import CrossEncoder

    torch.set_num_threads(threads)
    batch_size = options.get("batch_size", 32)
    backend = options.get("backend", "torch")
    kwargs: dict[str, Any] = {}
    if backend == "openvino":
        config = {"INFERENCE_NUM_THREADS": str(threads)}
        if "precision" in options:
            config["INFERENCE_PRECISION_HINT"] = options["precision"]
        kwargs = {"export": True, "ov_config": config}
    if backend == "onnx":
        import onnxruntime

        session = onnxruntime.SessionOptions()
        session.intra_op_num_threads = threads
        kwargs = {"export": True, "session_options": session, "provider": "CPUExecutionProvider"}
    encoder = CrossEncoder(model, backend=backend, device="cpu", model_kwargs=kwargs)
    identity = torch.nn.Identity()

    def score(pairs: list[list[str]]) -> list[float]:
        found = encoder.predict(pairs, batch_size=batch_size, activation_fn=identity, show_progress_bar=False)
        return [float(s) for s in found]

    return score


def gemm_rate(dtype: str, threads: int) -> float:
    """Return the floating-point operations a second of this machine's matrix products, in units of 10^9."""
    import torch

    torch.set_num_threads(threads)
    kind = getattr(torch, dtype)
    weight, x = torch.randn(1536, 384).to(kind), torch.randn(2048, 384).to(kind)
    layout = torch.ops.mkldnn._reorder_linear_weight(weight, 2048)
    best = float("inf")
    for _ in range(60):
        began = time.perf_counter()
        torch.ops.mkldnn._linear_pointwise(x, layout, None, "none", [], "")
        best = min(best, time.perf_counter() - began)
    return 2 * 2048 * 384 * 1536 / best / 1e9


def resident_megabytes() -> float:
    """Return the largest resident size that this process has had."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    contender, model, threads = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    library = contender.pop("library")
    try:
        if library == "crossrank":
            score = load_crossrank(contender, threads)
        elif library == "sentence-transformers":
            score = load_sentence_transformers(contender, model, threads)
        else:
            print(json.dumps({"rates": {d: gemm_rate(d, threads) for d in ("float32", "bfloat16")}}), flush=True)
            return
        score([["warm up", "a passage of a few words"]] * 4)
    except (ImportError, OSError, ValueError, RuntimeError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"[:300]}), flush=True)
        return
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        pairs = json.loads(line)
        began = time.perf_counter()
        scores = score(pairs)
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "scores": scores, "megabytes": resident_megabytes()}), flush=True)


if __name__ == "__main__":
    main()
