"""A reranker as mteb wants one, so that `mteb.evaluate` ranks the candidates of its reranking tasks with it.

Source: `CrossEncoderProtocol` of mteb 2 (models/models_protocols.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import InputError, MissingExtra
from crossrank.types import Document, Scorer, Scores

if TYPE_CHECKING:
    from mteb.models.model_meta import ModelMeta

# So many pairs are scored in one call: the reranker sorts them by length. Decoded images fill the memory sooner.
MAX_WAITING_PAIRS = 2048
MAX_WAITING_IMAGES = 64
_FRAMEWORKS = {"openvino": "OpenVINO", "torch": "PyTorch"}


class MtebCrossEncoder:
    """Scores the pairs of mteb with a reranker: raw logits, in the order given.

    A document keeps its title and its body apart, so that the checkpoint's own prompt joins them, and its image; an
    instruction stands behind its query, where mteb puts it.

    Attributes:
        scorer: What scores the pairs.
        mteb_model_meta: What mteb writes into its results.
    """

    def __init__(
        self,
        model_name: str | Path | None = None,
        revision: str | None = None,
        device: str | None = None,
        **load_options: Any,
    ) -> None:
        """Load a checkpoint, with the arguments of `Reranker.load`.

        Raises:
            MissingExtra: If mteb is not installed, or a package that the checkpoint needs.
            CheckpointError: If the checkpoint cannot be loaded.
        """
        from crossrank.reranker import Reranker

        reranker = Reranker.load(model_name, revision=revision, device=device or "auto", **load_options)
        name = reranker.checkpoint.name
        self._adapt(
            reranker,
            name=name if _is_hub_name(name) else f"crossrank/{Path(name).name}",
            revision=revision,
            framework=[_FRAMEWORKS[reranker.engine.name]] if reranker.engine.name in _FRAMEWORKS else [],
            max_tokens=reranker.checkpoint.max_length,
        )

    @classmethod
    def from_scorer(cls, scorer: Scorer, *, name: str, modalities: Sequence[str] = ("text",)) -> MtebCrossEncoder:
        """Adapt anything that scores pairs, for example a reranker that is already loaded.

        Args:
            scorer: What scores the pairs; gets each as a query and a `Document`.
            name: What mteb calls it in its results, as `organisation/name`.
            modalities: What it reads of a document, `"text"`, `"image"` or both; mteb refuses tasks of other kinds.

        Raises:
            InputError: If the name has another form.
            MissingExtra: If mteb is not installed.
        """
        if not _is_hub_name(name):
            raise InputError(f"mteb files results under organisation/name, so name cannot be {name!r}")
        adapter = cls.__new__(cls)
        adapter._adapt(scorer, name=name, modalities=list(modalities))
        return adapter

    def _adapt(self, scorer: Scorer, **meta: Any) -> None:
        self.scorer = scorer
        self.mteb_model_meta = _model_meta(**meta)

    def predict(
        self,
        inputs1: Iterable[Mapping[str, Any]],
        inputs2: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        **encode_options: Any,
    ) -> Scores:
        """Return the logit of each pair, float32 `(P,)`, in the order given.

        Args:
            inputs1: Batches of queries, one a pair: columns by name, of which `text` is read.
            inputs2: Batches of documents, aligned: `title` and `body`, or `text`, and `image`.
            task_metadata: Not read; mteb passes it, as the three after it.
            hf_split: Not read.
            hf_subset: Not read.
            prompt_type: Not read.
            **encode_options: `batch_size` and the like; the scorer makes its own batches.

        Raises:
            InputError: If a query is not text alone, or the scorer refuses a pair.
        """
        parts = [self.scorer.score(pairs) for pairs in _groups(inputs1, inputs2)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def _model_meta(*, name: str, **more: Any) -> ModelMeta:
    try:
        from mteb.models.model_meta import ModelMeta
    except ImportError as error:
        raise MissingExtra("the adapter for mteb", extra="mteb") from error
    return ModelMeta.create_empty({"name": name, "model_type": ["cross-encoder"], **more})


def _is_hub_name(name: str) -> bool:
    return name.count("/") == 1 and all(name.split("/")) and not Path(name).exists()


def _groups(
    inputs1: Iterable[Mapping[str, Any]], inputs2: Iterable[Mapping[str, Any]]
) -> Iterator[list[tuple[str, Document]]]:
    """Yield runs of pairs that are scored in one call."""
    waiting: list[tuple[str, Document]] = []
    for query, document in zip(_rows(inputs1), _rows(inputs2), strict=True):
        waiting.append((_query(query), _document(document)))
        if len(waiting) >= (MAX_WAITING_PAIRS if waiting[-1][1].image is None else MAX_WAITING_IMAGES):
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _rows(batches: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for batch in batches:
        for values in zip(*batch.values(), strict=True):
            yield dict(zip(batch, values, strict=True))


def _query(row: Mapping[str, Any]) -> str:
    if row.get("image") is not None or "text" not in row:
        raise InputError("a query of this task is not text alone: a reranker reads queries as text")
    return str(row["text"])


def _document(row: Mapping[str, Any]) -> Document:
    text = row["body"] if "body" in row else row.get("text", "")
    return Document(text, title=row.get("title"), id=row.get("id"), image=row.get("image"))
