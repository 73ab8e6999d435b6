"""Published checkpoints that `config.json` alone does not tell, by their exact names on the hub."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What is known of a published checkpoint.

    Attributes:
        family: Its row in the table of families; None where its files say it, and only the licence stands here.
        licence: Where it is not the family's.
        non_commercial: Whether that licence forbids commercial use.
    """

    family: str | None
    licence: str | None = None
    non_commercial: bool = False


# Names are compared as a whole: nothing is read off a part of one.
_NAMES: dict[str, tuple[str, ...]] = {
    "qwen3_reranker": ("Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-4B", "Qwen/Qwen3-Reranker-8B"),
    "qwen3_reranker_seq_cls": (
        "tomaarsen/Qwen3-Reranker-0.6B-seq-cls",
        "tomaarsen/Qwen3-Reranker-4B-seq-cls",
        "tomaarsen/Qwen3-Reranker-8B-seq-cls",
    ),
    "bge_reranker_gemma": ("BAAI/bge-reranker-v2-gemma",),
    "bge_reranker_minicpm": ("BAAI/bge-reranker-v2-minicpm-layerwise",),
    "mxbai_rerank_v2": ("mixedbread-ai/mxbai-rerank-base-v2", "mixedbread-ai/mxbai-rerank-large-v2"),
    "ctxl_rerank_v2": (
        "ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b",
        "ContextualAI/ctxl-rerank-v2-instruct-multilingual-2b",
    ),
    "jina_reranker_v2": ("jinaai/jina-reranker-v2-base-multilingual",),
    "jina_reranker_m0": ("jinaai/jina-reranker-m0",),
    "monoqwen2_vl": ("lightonai/MonoQwen2-VL-v0.1",),
    "qwen3_vl_reranker": ("Qwen/Qwen3-VL-Reranker-2B", "Qwen/Qwen3-VL-Reranker-8B"),
    # Source: the tables of answer tokens in castorini/pygaggle and mteb.
    "monot5": (
        "castorini/monot5-small-msmarco-10k",
        "castorini/monot5-small-msmarco-100k",
        "castorini/monot5-base-msmarco",
        "castorini/monot5-base-msmarco-10k",
        "castorini/monot5-base-med-msmarco",
        "castorini/monot5-large-msmarco",
        "castorini/monot5-large-msmarco-10k",
        "castorini/monot5-3b-msmarco",
        "castorini/monot5-3b-msmarco-10k",
        "castorini/monot5-3b-med-msmarco",
    ),
    "monot5_mt5": (
        "unicamp-dl/mt5-base-en-msmarco",
        "unicamp-dl/mt5-base-en-pt-msmarco-v1",
        "unicamp-dl/mt5-base-en-pt-msmarco-v2",
        "unicamp-dl/mt5-base-mmarco-v1",
        "unicamp-dl/mt5-base-mmarco-v2",
    ),
    "monot5_ptt5": (
        "unicamp-dl/ptt5-base-pt-msmarco-10k-v1",
        "unicamp-dl/ptt5-base-pt-msmarco-10k-v2",
        "unicamp-dl/ptt5-base-pt-msmarco-100k-v1",
        "unicamp-dl/ptt5-base-pt-msmarco-100k-v2",
        "unicamp-dl/ptt5-base-en-pt-msmarco-10k-v1",
        "unicamp-dl/ptt5-base-en-pt-msmarco-100k-v2",
    ),
}

_NEMOTRON = Published(None, licence="NVIDIA Open Model License, Llama 3.2 Community License")

PUBLISHED: dict[str, Published] = {name: Published(family) for family, names in _NAMES.items() for name in names} | {
    "nvidia/llama-nemotron-rerank-1b-v2": _NEMOTRON,
    "nvidia/llama-3.2-nv-rerankqa-1b-v2": _NEMOTRON,  # its former name
    "zeroentropy/zerank-1": Published(None, licence="CC-BY-NC-4.0", non_commercial=True),
    "zeroentropy/zerank-2": Published(None, licence="CC-BY-NC-4.0", non_commercial=True),
}
