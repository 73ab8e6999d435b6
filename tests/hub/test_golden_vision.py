"""Scores that the cards of page rerankers publish; `pytest -m hub tests/hub/test_golden_vision.py` downloads 12 GB.

Sources: the cards of nvidia/llama-nemotron-rerank-vl-1b-v2 (bfloat16) and jinaai/jina-reranker-m0 (bfloat16), and the
documentation of sentence-transformers for Qwen/Qwen3-VL-Reranker-2B (bfloat16). Of the card's images, jina's are in a
public repository; NVIDIA's are press pictures, so only its row of texts stands here.
"""

import urllib.request

import numpy as np
import pytest

from crossrank import Document, Reranker

pytestmark = pytest.mark.hub

NVIDIA_QUERY = "How is AI improving the intelligence and capabilities of robots?"
NVIDIA_TEXTS = [
    "AI enables robots to perceive, plan, and act autonomously.",
    "AI is transforming autonomous vehicles by enabling safer, smarter, and more reliable decision-making on the road.",
    "A biological foundation model designed to analyze and generate DNA, RNA, and protein sequences.",
]
JINA_IMAGES = "https://raw.githubusercontent.com/jina-ai/multimodal-reranker-test/main/"


def test_nvidia_texts():
    reranker = Reranker.load("nvidia/llama-nemotron-rerank-vl-1b-v2", dtype="float32")
    scores = reranker.score([(NVIDIA_QUERY, text) for text in NVIDIA_TEXTS])
    np.testing.assert_allclose(scores, [-0.73828125, -3.859375, -7.75], atol=0.1)


def test_jina_images():
    names = ["handelsblatt-preview.png", "paper-11.png", "wired-preview.png"]
    images = [urllib.request.urlopen(JINA_IMAGES + name).read() for name in names]
    reranker = Reranker.load("jinaai/jina-reranker-m0", dtype="float32", max_length=2048)
    ranking = reranker.rank("slm markdown", [Document(image=image) for image in images], score_type="probability")
    scores = [hit.score for hit in sorted(ranking, key=lambda hit: hit.index)]
    np.testing.assert_allclose(scores, [0.49375027, 0.78897369, 0.47813892], atol=0.02)


def test_qwen3_vl_texts():
    reranker = Reranker.load("Qwen/Qwen3-VL-Reranker-2B", dtype="float32")
    text = "A vintage Volkswagen Beetle painted in bright green sits in a driveway."
    scores = reranker.score([("A green car parked in front of a yellow building", text)])
    np.testing.assert_allclose(scores, [-1.25], atol=0.15)
