"""Pages as vectors: llama_nemotron_vl checkpoints such as nvidia/llama-nemotron-embed-vl-1b-v2.

The towers of the reranker (`nemotron_vl.py`), pooled and scaled to length 1. Shape letters: `D` documents, `B` those of
one batch, `T` tokens of the longest, `H` hidden.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossrank.encoding.passages import EncodedPassage, PassageEncoder, PassageFormat
from crossrank.encoding.visual import VisualLimits
from crossrank.models.bidirectional import pool
from crossrank.models.bidirectional_layout import check_pooling
from crossrank.models.embedding import batches_of, budget_tokens, load_embedding_tokenizer
from crossrank.models.json_files import read_json_object, read_optional_object
from crossrank.models.nemotron_vl import NemotronVLBody, load_towers, read_tensors
from crossrank.models.onednn import replace_linears
from crossrank.models.settings import VisionSettings, read_settings
from crossrank.models.visual_families import NEMOTRON_LIMITS, nemotron_tiling
from crossrank.types import LazyImage

# Source: the configuration class of nvidia/llama-nemotron-embed-vl-1b-v2.
_QUERY_PREFIX, _PASSAGE_PREFIX, _MAX_QUERY_TOKENS = "query:", "passage:", 512


class PageEmbedder:
    """A loaded bi-encoder of pages: text, images, or both.

    Args:
        folder: Holds `config.json`, the weights and `tokenizer.json`.
        where: The checkpoint, for errors.
        device: As torch names it.

    Raises:
        CheckpointError: If the checkpoint is broken.
        UnsupportedModel: If it prepares images in a way that is not known.

    Source: the model card of nvidia/llama-nemotron-embed-vl-1b-v2.
    """

    def __init__(self, folder: Path, *, where: str, device: str) -> None:
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        config = read_json_object(folder / "config.json")
        self._pooling = check_pooling(config.get("pooling", "last"), where)
        vision = read_settings(folder).vision or VisionSettings()
        self._encoder = PassageEncoder(
            load_embedding_tokenizer(folder), read_passage_format(config, folder, vision, where)
        )
        # Each page is seen once: nothing is kept.
        self._model = NemotronVLBody(
            *_load_towers(folder, config, dtype=self.dtype, where=where),
            slot_id=self._encoder.image_ids[1],
            select_layer=config.get("select_layer", -1),
            cache_bytes=0,
        ).eval()
        if self.device.type == "cpu":
            replace_linears(self._model)
        self._model.to(self.device)

    def embed_queries(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return unit vectors, float32 `(Q, H)`, in the order given."""
        return self._embed(self._encoder.encode_queries(texts))

    def embed_documents(self, texts: Sequence[str], images: Sequence[LazyImage | None]) -> npt.NDArray[np.float32]:
        """Return unit vectors, float32 `(D, H)`, in the order given.

        Args:
            texts: Of the documents; may be empty beside an image.
            images: Of the same documents; None where there is none.

        Raises:
            InputError: If an image cannot be read; names its document.
        """
        plain = iter(self._encoder.encode_texts([t for t, image in zip(texts, images, strict=True) if image is None]))
        return self._embed(
            [
                next(plain) if image is None else self._encoder.encode_page(image, text)
                for text, image in zip(texts, images, strict=True)
            ]
        )

    @torch.inference_mode()
    def _embed(self, passages: Sequence[EncodedPassage]) -> npt.NDArray[np.float32]:
        vectors_DH = np.empty((len(passages), self._model.language_model.config.hidden_size), np.float32)
        lengths = [len(passage.input_ids) for passage in passages]
        for rows in batches_of(lengths, budget_tokens(self.device)):
            vectors_DH[rows] = self._run([passages[row] for row in rows]).cpu().numpy()
        return vectors_DH

    def _run(self, batch: Sequence[EncodedPassage]) -> Tensor:
        rows = [torch.from_numpy(passage.input_ids).long() for passage in batch]
        ids_BT = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(self.device)
        mask_BT = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(self.device)
        hidden_BTH = self._model.encode(ids_BT, mask_BT, [passage.image for passage in batch])
        return F.normalize(pool(hidden_BTH, mask_BT, self._pooling), dim=-1)


def read_passage_format(config: Mapping[str, Any], folder: Path, settings: VisionSettings, where: str) -> PassageFormat:
    """Return how a llama_nemotron_vl checkpoint writes queries and documents.

    Args:
        config: `config.json`.
        folder: Holds `processor_config.json`, where there is one.
        settings: The part `vision` of `crossrank.json`.
        where: The checkpoint, for errors.

    Raises:
        CheckpointError: If `config.json` lacks a part or a number does not fit.
        UnsupportedModel: If its images are prepared in a way that is not known.
    """
    tiling = nemotron_tiling(config, settings, where)
    stated = dict(config) | read_optional_object(folder / "processor_config.json")
    positions = config["llm_config"].get("max_position_embeddings") or NEMOTRON_LIMITS.image_text
    return PassageFormat(
        stated.get("query_prefix", _QUERY_PREFIX),
        stated.get("passage_prefix", _PASSAGE_PREFIX),
        min(stated.get("q_max_length") or _MAX_QUERY_TOKENS, positions),
        VisualLimits(
            min(NEMOTRON_LIMITS.text, positions),
            min(settings.max_length_image or NEMOTRON_LIMITS.image, positions),
            min(settings.max_length_image_text or NEMOTRON_LIMITS.image_text, positions),
        ),
        tiling,
        config.get("img_context_token_id"),
    )


def _load_towers(folder: Path, config: Mapping[str, Any], *, dtype: torch.dtype, where: str) -> tuple[Any, Any, Any]:
    tensors = read_tensors(folder)
    start = "model." if any(name.startswith("model.") for name in tensors) else ""
    return load_towers(tensors, config, start=start, dtype=dtype, where=where)
