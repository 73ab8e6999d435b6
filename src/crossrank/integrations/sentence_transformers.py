"""To sentence-transformers and back: a `CrossEncoder` from a reranker, a reranker from a `CrossEncoder`.

`to_cross_encoder` and `from_cross_encoder` carry the weights over. `CrossEncoderAdapter` only speaks as one, so that
any scorer, the CPU form and remote services included, can be given to evaluators, `mine_hard_negatives` and the like.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.errors import InputError, MissingExtra
from crossrank.reranker import Reranker, sigmoid
from crossrank.types import Document, Scorer

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder


def to_cross_encoder(reranker: Reranker, **options: Any) -> CrossEncoder:
    """Return the same model as a `CrossEncoder` with the same scores.

    Args:
        reranker: Loaded from a checkpoint with torch weights.
        options: More arguments for `CrossEncoder`.

    Raises:
        InputError: If the checkpoint has no torch weights, or a prompt or a temperature that a `CrossEncoder` would
            not apply.
        MissingExtra: If sentence-transformers is not installed.
    """
    try:
        from sentence_transformers import CrossEncoder
    except ImportError:
        raise MissingExtra("A CrossEncoder", extra="sentence-transformers") from None
    checkpoint = reranker.checkpoint
    if not any(checkpoint.transformer_folder.glob("*.safetensors")):
        raise InputError(f"{checkpoint.name} has no torch weights: give a CrossEncoderAdapter instead")
    settings = checkpoint.settings
    if settings.temperature != 1 or settings.prompt != type(settings.prompt)():
        raise InputError(
            f"{checkpoint.name} has a prompt or a temperature of its own, and a CrossEncoder would leave it out: "
            "give a CrossEncoderAdapter instead"
        )
    encoder: CrossEncoder = CrossEncoder(str(checkpoint.folder), **{"max_length": checkpoint.max_length} | options)
    return encoder


def from_cross_encoder(model: CrossEncoder, folder: str | Path, **options: Any) -> Reranker:
    """Save a `CrossEncoder`, for example one that was just trained, and load it as a reranker.

    Args:
        model: With one or several labels.
        folder: New or empty; stays afterwards, and loads in both libraries.
        options: More arguments for `Reranker.load`.

    Raises:
        InputError: If the folder holds something.
        CheckpointError: If crossrank cannot score a model of that kind.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: give a new folder")
    model.save_pretrained(str(folder))
    return Reranker.load(folder, **options)


class CrossEncoderAdapter:
    """The methods `predict` and `rank` of a `CrossEncoder` over any scorer.

    Args:
        scorer: A `Reranker`, a `RemoteReranker`, or any other `Scorer`.
        activation: What `predict` applies to logits unless told: `"sigmoid"`, `"identity"`, or None for what the
            scorer's checkpoint states, identity where it has none.
    """

    num_labels = 1

    def __init__(self, scorer: Scorer, *, activation: str | None = None) -> None:
        if activation not in (None, "sigmoid", "identity"):
            raise InputError(f"activation must be 'sigmoid', 'identity' or None, not {activation!r}")
        self.scorer = scorer
        stated = scorer.checkpoint.activation if isinstance(scorer, Reranker) else "identity"
        self._uses_sigmoid = (activation or stated) == "sigmoid"
        self.model_card_data = _NoModelCard()

    def predict(
        self,
        inputs: Sequence[Any],
        *,
        activation_fn: Callable[[Any], Any] | None = None,
        apply_softmax: bool = False,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        **_: Any,
    ) -> Any:
        """Return one score a pair, as `CrossEncoder.predict` does; batch sizes and devices are the scorer's own.

        Args:
            inputs: One pair, or a list of pairs.
            activation_fn: A torch module or function, in place of the one that is stated.
            apply_softmax: Refused: there is one score a pair.
            convert_to_numpy: A list of floats if False.
            convert_to_tensor: A torch tensor.

        Raises:
            InputError: If an item is not a pair, or softmax is asked for.
        """
        if apply_softmax:
            raise InputError("apply_softmax needs several labels, and a scorer gives one score a pair")
        is_single = len(inputs) > 0 and isinstance(inputs[0], str)
        logits = self.scorer.score([_pair(pair) for pair in ([inputs] if is_single else inputs)])
        scores: Any = sigmoid(logits) if self._uses_sigmoid and activation_fn is None else logits
        if activation_fn is not None or convert_to_tensor:
            import torch

            tensor = torch.from_numpy(np.ascontiguousarray(scores))
            tensor = tensor if activation_fn is None else activation_fn(tensor)
            scores = tensor if convert_to_tensor else tensor.numpy()
        if not convert_to_tensor and not convert_to_numpy:
            scores = [float(score) for score in scores]
        return scores[0] if is_single else scores

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        top_k: int | None = None,
        return_documents: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Return `corpus_id`, `score` and, if asked, `text` of each document, best first, as `CrossEncoder.rank` does.

        Raises:
            InputError: As in `predict`.
        """
        scores = self.predict([(query, document) for document in documents], **options) if documents else []
        order = np.argsort([-float(score) for score in scores], kind="stable")[:top_k]
        return [
            {"corpus_id": int(i), "score": float(scores[i])} | ({"text": documents[i]} if return_documents else {})
            for i in order
        ]


class _NoModelCard:
    """What evaluators tell their results to; an adapter has no card to write them on."""

    def set_evaluation_metrics(self, *_: Any, **__: Any) -> None:
        """Leave the results to who called the evaluator."""


def _pair(pair: Any) -> tuple[str, str | Document]:
    if isinstance(pair, str) or len(pair) != 2:
        raise InputError(f"give pairs of a query and a document, not {str(pair)[:80]!r}")
    return pair[0], pair[1]
