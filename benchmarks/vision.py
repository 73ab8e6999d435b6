"""Pages a second under many queries, with the page cache and without: 20 queries over the same 20 pages.

A llama_nemotron_vl_rerank of small shape with random weights, as large a part of it vision as in the published one. The
scores of both ways are compared. `python benchmarks/vision.py --help` lists the sizes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast, SiglipVisionConfig, SiglipVisionModel

from crossrank import Document, Reranker
from crossrank.models.nemotron_vl import VisionCache

SIDE, PATCH = 128, 16
SPECIAL = ["<bos>", "<pad>", "<img>", "<IMG_CONTEXT>", "</img>"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument("--pages", type=int, default=20)
    parser.add_argument("--vision-layers", type=int, default=8)
    parser.add_argument("--language-layers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_checkpoint(folder, vision_layers=args.vision_layers, language_layers=args.language_layers)
        pages = [write_page(folder / f"page{i}.png", i) for i in range(args.pages)]
        queries = [f"what is figure {i} about" for i in range(args.queries)]
        seconds: dict[str, list[float]] = {"with": [], "without": []}
        scores = {}
        for _ in range(args.repeat):  # in turns, so that a busy machine slows both
            for way, times in seconds.items():
                elapsed, scores[way] = measure(folder, queries, pages, device=args.device, cached=way == "with")
                times.append(elapsed)
    num_pages = args.queries * args.pages
    rates = {way: num_pages / statistics.median(times) for way, times in seconds.items()}
    difference = float(np.abs(scores["with"] - scores["without"]).max())
    figures = {
        "pages_per_second": rates,
        "speedup": rates["with"] / rates["without"],
        "largest_score_difference": difference,
    }
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures | {"arguments": vars(args) | {"json": str(args.json)}}, indent=2))


def measure(
    folder: Path, queries: list[str], pages: list[Path], *, device: str, cached: bool
) -> tuple[float, np.ndarray]:
    """Return the seconds of all rankings, and the scores `(queries, pages)`."""
    reranker = Reranker.load(folder, device=device, dtype="float32")
    kept = VisionCache.features
    if not cached:
        VisionCache.features = lambda self, images, encode: encode(list(images))  # type: ignore[method-assign]
    try:
        reranker.rank("warm up", [Document(image=Image.new("RGB", (64, 64)))])
        start = time.perf_counter()
        rankings = [reranker.rank(query, [Document(image=page) for page in pages]) for query in queries]
        elapsed = time.perf_counter() - start
    finally:
        VisionCache.features = kept  # type: ignore[method-assign]
    scores = [[hit.score for hit in sorted(ranking, key=lambda hit: hit.index)] for ranking in rankings]
    return elapsed, np.array(scores)


def write_page(path: Path, number: int) -> Path:
    """Draw a page of text and bars."""
    page = Image.new("RGB", (425, 550), "white")
    draw = ImageDraw.Draw(page)
    for row in range(12):
        draw.text(
            (30, 30 + 20 * row), f"page {number}, line {row}: value {(number * 37 + row * 11) % 100}", fill="black"
        )
        draw.rectangle((30, 300 + 18 * row, 30 + (number * 53 + row * 29) % 350, 310 + 18 * row), fill="navy")
    page.save(path)
    return path


def write_checkpoint(folder: Path, *, vision_layers: int, language_layers: int) -> None:
    """Write the layout of nvidia/llama-nemotron-rerank-vl-1b-v2 with random weights."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(SPECIAL)
    bos = tokenizer.token_to_id("<bos>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", bos)])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", pad_token="<pad>").save_pretrained(folder)
    vision = {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": vision_layers}
    vision |= {"num_attention_heads": 6, "image_size": SIDE, "patch_size": PATCH}
    language = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": language_layers}
    language |= {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": tokenizer.get_vocab_size()}
    config = {
        "model_type": "llama_nemotron_vl_rerank", "architectures": ["LlamaNemotronVLForSequenceClassification"],
        "vision_config": vision, "llm_config": language | {"architectures": ["LlamaBidirectionalModel"]},
        "pooling": "avg", "prompt_template": "v1", "force_image_size": SIDE, "ps_version": "v2",
        "img_context_token_id": tokenizer.token_to_id("<IMG_CONTEXT>"),
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    width, hidden = 4 * 192, 128
    parts = {
        "model.language_model.": LlamaModel(LlamaConfig(**language)),
        "model.vision_model.vision_model.": SiglipVisionModel(SiglipVisionConfig(**vision)),
        "model.mlp1.": torch.nn.Sequential(
            torch.nn.LayerNorm(width), torch.nn.Linear(width, hidden), torch.nn.GELU(), torch.nn.Linear(hidden, hidden)
        ),
    }
    tensors = {start + name: tensor for start, part in parts.items() for name, tensor in part.state_dict().items()}
    save_file(tensors | {"score.weight": torch.randn(1, hidden)}, folder / "model.safetensors")


if __name__ == "__main__":
    main()
