"""The proof that pixels reach the score: a model that has never seen a page learns to rank pages it has not seen.

Pages are drawn here (`drawn_pages.py`): words, tables and charts whose content is known. One tiny model, a SigLIP
tower and a Llama joined by a fresh projector, all of random weights, is trained on images, texts and both in one run.
Then it ranks renderings that were not in training, four candidates of one kind a query, so that chance is 1/4. In the
mode `both` the caption is in the text and the rest in the image alone: either of them leaves two candidates.
"""

from __future__ import annotations

import json
import random
from itertools import product

import numpy as np
import PIL.Image
import pytest
from tests.training.conftest import losses_of, ndcg
from tests.training.drawn_pages import CONTENTS, SIDE, draw

from crossrank import Document, Reranker
from crossrank.training.config import parse_recipe
from crossrank.training.run import train

CAPTIONS = ("north", "south", "east", "west")
# Renderings of each content: those to train on, and those held out.
NUM_RENDERINGS, HELD_OUT = 60, range(1000, 1020)
# Groups to train on; to tell what a page shows takes longer than to tell which word a text has.
NUM_GROUPS = {"image": 1600, "both": 1000, "text": 200}
NUM_STEPS, GROUPS_A_STEP = 480, 8
NUM_JUDGED = 96
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of all pages, by kind, content and rendering."""
    folder = tmp_path_factory.mktemp("pages")
    for kind, contents in CONTENTS.items():
        for content, rendering in product(contents, (*range(NUM_RENDERINGS), *HELD_OUT)):
            draw(kind, content, rendering).save(folder / f"{kind}-{content}-{rendering}.png")
    PIL.Image.new("L", (SIDE, SIDE), 230).save(folder / "blank.png")
    return folder


def make_group(mode, number, renderings):
    """Return a query and its four documents, the relevant one first."""
    rng = random.Random(f"{mode} {number} {renderings}")
    kind = list(CONTENTS)[number % len(CONTENTS)]
    contents, captions = rng.sample(CONTENTS[kind], 4), rng.sample(CAPTIONS, 4)
    query, shown = f"{kind} {contents[0]}", [(content, "") for content in contents]
    if mode == "both":
        query += f" {captions[0]}"
        shown = list(product(contents[:2], captions[:2]))
    documents = []
    for content, caption in shown:
        image = f"{kind}-{content}-{rng.choice(renderings)}.png"
        text = f"{kind} {content}" if mode == "text" else caption
        documents.append(({"text": text} if text else {}) | ({} if mode == "text" else {"image": image}))
    return query, documents


def save_parts(folder):
    """Write a Llama with a vocabulary of the words here, and a vision tower; wide random weights learn sooner."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import (
        LlamaConfig,
        LlamaModel,
        PreTrainedTokenizerFast,
        SiglipVisionConfig,
        SiglipVisionModel,
        set_seed,
    )

    words = ["[PAD]", "[UNK]", "[BOS]", "question", "passage", ":", *CAPTIONS, *CONTENTS, *sum(CONTENTS.values(), ())]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 2)])
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[BOS]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "language")
    set_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), max_position_embeddings=128, initializer_range=0.2, pad_token_id=0, **SIZES
    )
    LlamaModel(config).save_pretrained(folder / "language")
    tower = SiglipVisionConfig(image_size=SIDE, patch_size=16, vision_use_head=False, **SIZES)
    SiglipVisionModel(tower).save_pretrained(folder / "vision")


@pytest.fixture(scope="module")
def trained(pages, tmp_path_factory):
    """The folder of the model before training, and of the model after it."""
    folder = tmp_path_factory.mktemp("proof")
    save_parts(folder)
    for mode, num_groups in NUM_GROUPS.items():
        groups = [make_group(mode, i, range(NUM_RENDERINGS)) for i in range(num_groups)]
        rows = [{"query": query, "positives": documents[:1], "negatives": documents[1:]} for query, documents in groups]
        lines = [json.dumps({"query_id": f"{mode} {i}"} | row) + "\n" for i, row in enumerate(rows)]
        (pages / f"{mode}.jsonl").write_text("".join(lines))
    recipe = {
        "output": str(folder / "out"),
        "model": {"name": str(folder / "language"), "vision_tower": str(folder / "vision"), "max_length": 64},
        "data": {
            "train": [str(pages / f"{mode}.jsonl") for mode in NUM_GROUPS],
            "negatives": {"num": 3},
            "cache_dir": str(folder / "cache"),
        },
        "training": {
            "max_steps": NUM_STEPS, "global_batch_size": GROUPS_A_STEP, "local_batch_size": GROUPS_A_STEP,
            "learning_rate": 2e-3, "warmup_steps": 20, "weight_decay": 0.0, "precision": "fp32", "budget_tokens": 8192,
        },
        "logging": {"every_steps": 40},
    }  # fmt: skip
    report = train(parse_recipe(recipe), measure=ndcg)
    print("losses", [round(loss, 3) for loss in losses_of(recipe["output"])])
    return folder / "out" / "base", report.model


def accuracy(model, pages, mode, *, blank=False):
    """Return how often the relevant page comes first, ties shared; on renderings that training has not seen."""
    found = []
    for number in range(NUM_JUDGED):
        query, rows = make_group(mode, number, HELD_OUT)
        names = [row.get("image") and ("blank.png" if blank else row["image"]) for row in rows]
        documents = [
            Document(row.get("text", ""), image=name and str(pages / name))
            for row, name in zip(rows, names, strict=True)
        ]
        scores = model.score([(query, document) for document in documents])
        is_best = scores > scores.max() - 1e-4
        found.append(is_best[0] / is_best.sum())
    return float(np.mean(found))


def test_held_out_pages_are_ranked_far_above_chance(trained, pages):
    before, after = Reranker.load(trained[0], allow_untrained=True), Reranker.load(trained[1])
    figures = {mode: accuracy(after, pages, mode) for mode in NUM_GROUPS}
    untrained = {mode: accuracy(before, pages, mode) for mode in NUM_GROUPS}
    blank = {mode: accuracy(after, pages, mode, blank=True) for mode in ("image", "both")}
    print("chance 0.25, before training", untrained, "\nafter", figures, "\nblank pages", blank)
    assert min(figures.values()) > 0.85
    assert max(untrained.values()) < 0.45
    # Blank pages tie: in `both` the caption still halves the candidates.
    assert blank["image"] == 0.25 and blank["both"] <= 0.5
