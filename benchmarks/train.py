"""Training speed beside sentence-transformers' CrossEncoderTrainer and a plain Hugging Face Trainer, in one run.

The same model (the shipped one's weights: MiniLM-L6, 22 million), the same groups of 1 + 7 passages, batches,
optimizer, loss (softmax over the group) and precision. All three are driven by transformers' Trainer, so one callback
times the steps of all by the wall; they take turns, and the first step of a turn does not count. Two workloads:
passages of natural lengths, and passages that all fill the 192 tokens, where there is no padding to save. It takes
about six minutes on two cores.

    python benchmarks/train.py [--groups 16] [--steps 3] [--rounds 2] [--precision bf16] [--json figures.json]

Shape letters: `G` groups, `N` candidates of a group.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from crossrank.inference.export import restore_transformers
from crossrank.training.config import parse_recipe
from crossrank.training.run import train
from workload import make

GROUP_SIZE = 8
MAX_LENGTH = 192
LEARNING_RATE = 2e-5
OURS, SENTENCE_TRANSFORMERS, PLAIN = "crossrank", "sentence-transformers CrossEncoderTrainer", "plain Trainer loop"


class StepClock(TrainerCallback):
    """Times updates from the end of one to the end of the next, so that reading the data counts."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: object, **__: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def seconds(self) -> list[float]:
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def make_groups(num_groups: int, *, is_full: bool) -> list[tuple[str, list[str]]]:
    groups = make(num_groups, GROUP_SIZE, seed=11)
    return [(query, [" ".join([text] * 40) for text in texts]) for query, texts in groups] if is_full else groups


def arguments(folder: Path, options: argparse.Namespace) -> dict:
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": options.groups,
        "max_steps": options.steps + 1,
        "learning_rate": LEARNING_RATE,
        "bf16": options.precision == "bf16",
        "use_cpu": not torch.cuda.is_available(),
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": torch.cuda.is_available(),
    }


def run_crossrank(model: Path, groups: list, folder: Path, clock: StepClock, options: argparse.Namespace) -> None:
    rows = [{"query": query, "positives": texts[:1], "negatives": texts[1:]} for query, texts in groups]
    path = folder / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    values = {
        "output": str(folder / "out"),
        "model": {"name": str(model), "max_length": MAX_LENGTH},
        "data": {"train": [str(path)], "negatives": {"num": GROUP_SIZE - 1}, "cache_dir": str(folder / "cache")},
        "training": {
            "max_steps": options.steps + 1,
            "global_batch_size": options.groups,
            "local_batch_size": options.groups,
            "learning_rate": LEARNING_RATE,
            "precision": options.precision,
        },
        "logging": {"every_steps": 1000},
    }
    train(parse_recipe(values), measure=lambda qrels, run: 0.0, callbacks=[clock])


def run_sentence_transformers(
    model: Path, groups: list, folder: Path, clock: StepClock, options: argparse.Namespace
) -> None:
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoder, CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    encoder = CrossEncoder(str(model), max_length=MAX_LENGTH)
    labels = [[1.0] + [0.0] * (GROUP_SIZE - 1)] * len(groups)
    data = {"query": [query for query, _ in groups], "docs": [texts for _, texts in groups], "labels": labels}
    trainer = CrossEncoderTrainer(
        model=encoder,
        args=CrossEncoderTrainingArguments(**arguments(folder, options)),
        train_dataset=Dataset.from_dict(data),
        loss=ListNetLoss(encoder),
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


class PlainTrainer(Trainer):
    """What one would write by hand: pad the pairs of the batch to the longest, one forward pass, cross-entropy."""

    def compute_loss(self, model: torch.nn.Module, inputs: dict, *_: object, **__: object) -> torch.Tensor:
        scores_GN = model(**inputs).logits.view(-1, GROUP_SIZE).float()
        return F.cross_entropy(scores_GN, torch.zeros(len(scores_GN), dtype=torch.long, device=scores_GN.device))


def run_plain(model: Path, groups: list, folder: Path, clock: StepClock, options: argparse.Namespace) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)

    def collate(rows: list) -> dict:
        queries = [query for query, texts in rows for _ in texts]
        texts = [text for _, texts in rows for text in texts]
        limits = {"truncation": "only_second", "max_length": MAX_LENGTH}
        return dict(tokenizer(queries, texts, padding=True, return_tensors="pt", **limits))

    trainer = PlainTrainer(
        model=AutoModelForSequenceClassification.from_pretrained(model, dtype=torch.float32),
        args=TrainingArguments(**arguments(folder, options), remove_unused_columns=False),
        train_dataset=groups,
        data_collator=collate,
        callbacks=[clock],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()


ENGINES: dict[str, Callable] = {OURS: run_crossrank, PLAIN: run_plain, SENTENCE_TRANSFORMERS: run_sentence_transformers}


def measure(model: Path, options: argparse.Namespace) -> list[dict]:
    rows = []
    for name in ("natural", "full"):
        groups = make_groups(options.groups * (options.steps + 1), is_full=name == "full")
        seconds: dict[str, list[float]] = {engine: [] for engine in ENGINES}
        for _ in range(options.rounds):
            for engine, run in ENGINES.items():
                clock = StepClock()
                with tempfile.TemporaryDirectory() as folder:
                    run(model, groups, Path(folder), clock, options)
                seconds[engine] += clock.seconds()
        speeds = {engine: options.groups * GROUP_SIZE / statistics.median(times) for engine, times in seconds.items()}
        for engine, speed in speeds.items():
            row = {"lengths": name, "engine": engine, "pairs_per_s": round(speed, 1)}
            row["crossrank_is_faster_by"] = round(speeds[OURS] / speed, 2)
            rows.append(row)
            print(f"| {name} | {engine} | {speed:.1f} | {row['crossrank_is_faster_by']:.2f} |", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=16, help="groups of a batch")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads")
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"{device}, {options.precision}, {options.groups} groups of {GROUP_SIZE}, at most {MAX_LENGTH} tokens")
    print("\n| lengths | | pairs/s | crossrank is faster by |\n| --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(restore_transformers(None, Path(folder, "model")), options)
    if options.json:
        options.json.write_text(json.dumps({"device": device, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
