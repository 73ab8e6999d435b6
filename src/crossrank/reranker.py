"""The front door: a checkpoint that scores pairs and ranks documents.

Shape letters: `P` pairs, `L` labels, `N` documents of one query.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossrank.encoding.images import with_image_sources
from crossrank.encoding.visual import Encoder, VisualEncoder
from crossrank.encoding.windows import split_into_windows
from crossrank.errors import CheckpointError, InputError, MissingExtra
from crossrank.inference.engine import Engine
from crossrank.inference.scoring import ScoredPairs, score_pairs
from crossrank.inference.selection import load_engine
from crossrank.models.checkpoint import Checkpoint, load_encoder, open_checkpoint
from crossrank.models.visual_families import image_families, with_max_tiles
from crossrank.retrieval.fusion import fuse
from crossrank.types import Document, Hit, Ranking, Scores

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

ScoreType = Literal["logit", "probability"]
OnOverflow = Literal["truncate", "chunk", "fewer_tiles", "error"]
DocumentLike = str | Document | Mapping[str, Any]
DOCUMENT_KEYS = ("text", "title", "id", "metadata", "image")
# Tokens of the smallest window over a text that has to share its room with an image.
_LEAST_WINDOW = 4
# Where the checkpoint has no fitted fusion: both sides count the same.
DEFAULT_FUSION = ("zscore", 0.5)


@dataclass(frozen=True)
class _ScoredDocuments:
    """Logits `(N, L)` of the documents of one query, and what was read of each."""

    logits: npt.NDArray[np.float32]
    truncated: npt.NDArray[np.bool_]
    spans: list[tuple[int, int] | None]


class Reranker:
    """A loaded checkpoint; may be called from many threads at once.

    Attributes:
        checkpoint: What the checkpoint says of itself.
        engine: The runtime that computes the logits.
    """

    def __init__(
        self, checkpoint: Checkpoint, encoder: Encoder, engine: Engine, *, allow_untrained: bool = False
    ) -> None:
        self.checkpoint = checkpoint
        self.engine = engine
        self._encoder = encoder
        self._allow_untrained = allow_untrained
        self._fresh_model: PreTrainedModel | None = None

    @classmethod
    def load(
        cls,
        model: str | Path | None = None,
        *,
        revision: str | None = None,
        backend: str = "auto",
        device: str = "auto",
        dtype: str = "auto",
        max_length: int | None = None,
        num_threads: int | None = None,
        budget_tokens: int | None = None,
        label: int | str | None = None,
        family: str | None = None,
        cutoff_layer: int | None = None,
        max_input_tiles: int | None = None,
        allow_untrained: bool = False,
    ) -> Reranker:
        """Load a checkpoint.

        Args:
            model: A folder, a name on the hub, or None for the model that ships in the package.
            revision: Branch, tag or commit on the hub.
            backend: `"openvino"`, `"torch"`, or `"auto"`: OpenVINO for the CPU form, torch for all others.
            device: `"cpu"`, `"cuda"`, `"cuda:1"`, ... or `"auto"`.
            dtype: `"float32"` is exact; `"bfloat16"`, `"float16"`; `"auto"` is bfloat16 for the CPU form on a CPU that
                has it and on CUDA, float32 otherwise.
            max_length: Most tokens of a pair, special tokens included; the checkpoint's own limit if None, which may
                be another one for documents with images.
            num_threads: CPU threads; all that the process may use if None.
            budget_tokens: Most tokens of one batch, padding included; a good number for the runtime if None.
            label: Which output is the score where the head has several: its index or its name in `id2label`.
            family: What kind of reranker it is, as `crossrank models` lists them, where the checkpoint's files do not
                say it, or instead of what they say.
            cutoff_layer: How many layers are computed, for a checkpoint with a head behind each; all if None.
            max_input_tiles: Most tiles of an image, its thumbnail not counted, for a checkpoint that cuts images into
                tiles; as published if None.
            allow_untrained: Score even where the checkpoint says that its head is fresh: the scores are then random.

        Raises:
            CheckpointError: If the checkpoint cannot be found, is broken, unsafe or has no trained head.
            UnsupportedModel: If it is of a kind that crossrank cannot score.
            InputError: If an option is unknown or does not fit.
            MissingExtra: If the checkpoint needs a package that is not installed.
        """
        checkpoint = open_checkpoint(
            model, revision=revision, max_length=max_length, label=label, family=family, cutoff_layer=cutoff_layer
        )
        if max_input_tiles is not None:
            checkpoint = replace(checkpoint, visual=with_max_tiles(checkpoint.visual, max_input_tiles, checkpoint.name))
        if checkpoint.non_commercial:
            logger.warning("%s: the licence %s forbids commercial use", checkpoint.name, checkpoint.licence)
        encoder = load_encoder(checkpoint)
        engine = load_engine(
            checkpoint,
            backend=backend,
            device=device,
            dtype=dtype,
            num_threads=num_threads,
            budget_tokens=budget_tokens,
        )
        return cls(checkpoint, encoder, engine, allow_untrained=allow_untrained)

    @classmethod
    def from_backbone(
        cls,
        model: str | Path,
        *,
        pooling: str = "avg",
        temperature: float = 1.0,
        num_labels: int = 1,
        seed: int = 42,
        max_length: int | None = None,
        revision: str | None = None,
        device: str = "auto",
        allow_untrained: bool = False,
    ) -> Reranker:
        """Turn a language model into a bidirectional reranker with a fresh head, to be saved and trained.

        Attention becomes bidirectional, `lm_head` is dropped, and the pooled hidden state goes through a linear head
        without bias that is drawn from a normal distribution; weights keep the precision of the file.

        Args:
            model: A folder or a name on the hub: Llama, Mistral, Ministral, Qwen2 or Qwen3, without a scoring head.
            pooling: What the head reads of the real tokens: their mean, `"avg"`, the first, `"cls"`, or the last.
            temperature: The logits are divided by it.
            num_labels: Outputs of the head.
            seed: Of the head.
            max_length: Most tokens of a pair; 8192 if None, or the model's positions where they are fewer.
            revision: Branch, tag or commit on the hub.
            device: As of `load`.
            allow_untrained: Score all the same: the scores are random until the head is trained.

        Raises:
            InputError: If an option cannot be used.
            UnsupportedModel: If models of this kind cannot be converted.
            CheckpointError: If the checkpoint cannot be found, is broken, or has a trained head already.
            MissingExtra: If torch is not installed.
        """
        try:
            from crossrank.models.backbone import build_from_backbone
        except ImportError:
            raise MissingExtra(f"building a reranker from {model}", extra="torch") from None
        from crossrank.inference.torch_engine import TorchEngine

        built, checkpoint = build_from_backbone(
            model,
            pooling=pooling,
            temperature=temperature,
            num_labels=num_labels,
            seed=seed,
            max_length=max_length,
            revision=revision,
        )
        engine = TorchEngine.load(checkpoint, device=device, model=built)
        reranker = cls(checkpoint, load_encoder(checkpoint), engine, allow_untrained=allow_untrained)
        reranker._fresh_model = built
        return reranker

    def save(self, folder: str | Path) -> Path:
        """Write the checkpoint into a folder that transformers and sentence-transformers read too; return the folder.

        Weights keep the precision of their file, whatever precision this reranker computes in, so saving what was
        loaded gives the same bits. A LoRA adapter is merged into the weights below it.

        Args:
            folder: A new folder, an empty one, or one that holds an older checkpoint, which is replaced in one step.

        Raises:
            InputError: If the folder holds something else.
            UnsupportedModel: If checkpoints of this layout are not written by crossrank.
            MissingExtra: If torch is not installed.
        """
        try:
            from crossrank.models.saving import save_loaded
        except ImportError:
            raise MissingExtra(f"saving {self.checkpoint.name}", extra="torch") from None
        return save_loaded(Path(folder), self.checkpoint, model=self._fresh_model)

    @property
    def reads_images(self) -> bool:
        """Whether documents may be images."""
        return self.checkpoint.visual is not None

    def __repr__(self) -> str:
        engine = self.engine
        return f"Reranker({self.checkpoint.name!r}, {engine.name} on {engine.device} in {engine.precision})"

    def score(
        self,
        pairs: Sequence[tuple[str, str | Document]],
        *,
        instruction: str | None = None,
        show_progress: bool = False,
    ) -> Scores:
        """Return the raw logit of each pair, float32 `(P,)`, in the order given; higher is more relevant.

        A document that is too long is truncated; the query only where the checkpoint's prompt caps it.

        Args:
            pairs: Query and document.
            instruction: What counts as relevant, where the checkpoint's prompt has a place for it; its default if None.
            show_progress: Draw a progress bar on standard error.

        Raises:
            InputError: If an item is not a pair of a query and a document, a query leaves no room for a document, or
                the prompt has no place for an instruction.
            NumericalError: If a logit is NaN or infinite; names the pair.
        """
        if isinstance(pairs, str | bytes):
            raise InputError("pairs must be a list of (query, document), not one string")
        checked = [_check_pair(pair, i, reads_images=self.reads_images) for i, pair in enumerate(pairs)]
        if self.reads_images:
            documents = with_image_sources([document for _, document in checked], what="the document of pair")
            checked = [(query, document) for (query, _), document in zip(checked, documents, strict=True)]
        encoder = self._encoder.with_instruction(instruction)
        return self._scores(self._run(checked, encoder, show_progress=show_progress).logits)

    def rank(
        self,
        query: str,
        documents: Sequence[DocumentLike],
        *,
        top_k: int | None = None,
        score_type: ScoreType = "logit",
        on_overflow: OnOverflow = "truncate",
        first_stage_scores: Sequence[float] | npt.NDArray[np.floating[Any]] | None = None,
        instruction: str | None = None,
        show_progress: bool = False,
    ) -> Ranking:
        """Rank documents for a query: score descending, equal scores in input order.

        Args:
            query: What to rank for.
            documents: Strings, `Document`s, or mappings with `text` and optionally `title`, `id`, `metadata`, `image`;
                a model that reads text alone does not look at an image beside one.
            top_k: Keep the best k; all if None.
            score_type: `"logit"`, or `"probability"`: the checkpoint's fitted calibration where it has one, otherwise
                its activation in float32, by the rule of sentence-transformers: the sigmoid unless it states another.
                One that states the identity and has no calibration gives no probabilities: its scores stay logits,
                and the ranking's `score_type` says so. Over several labels it is the softmax.
            on_overflow: For a document that is too long: `"truncate"` reads its beginning and says so in the hit;
                `"chunk"` reads overlapping windows that end at sentences and keeps the best one's score and span;
                `"fewer_tiles"` makes an image smaller until image and text fit, and reads the text's beginning where
                that is not enough; `"error"` refuses. Image tokens are never cut: an image that does not fit beside
                the query is refused, but for `"fewer_tiles"`.
            first_stage_scores: One score a document from the retriever. The ranking is then by the fused score, with
                the method and weight that the checkpoint states (else the mean of both z-scores), and its
                `score_type` is `"fused"`.
            instruction: What counts as relevant, where the checkpoint's prompt has a place for it; its default if None.
            show_progress: Draw a progress bar on standard error.

        Raises:
            InputError: If an argument cannot be used, or a document is too long under `"error"`.
            NumericalError: If a logit is NaN or infinite; names the pair.
        """
        _check_query(query)
        _check_options(top_k, score_type, on_overflow, fused=first_stage_scores is not None)
        if isinstance(documents, str | bytes | Mapping):
            raise InputError("documents must be a list of documents, not one document")
        checked = [to_document(document, i, reads_images=self.reads_images) for i, document in enumerate(documents)]
        _check_length(first_stage_scores, len(checked))
        encoder = self._encoder.with_instruction(instruction)
        kind = "fused" if first_stage_scores is not None else self._scale(score_type)
        if not checked:
            return Ranking(query, (), score_type=kind, model=self.checkpoint.name)
        scored = self._score_documents(query, checked, encoder, on_overflow, show_progress=show_progress)
        scores = order_by = self._scores(scored.logits)
        if first_stage_scores is not None:
            method, weight = self._fusion()
            scores = order_by = fuse(scores, first_stage_scores, method=method, weight=weight)
        elif kind == "probability":
            scores = self._probabilities(scored.logits)
            # A probability grows with its logit, but float32 rounds the large ones to the same 1: the logits decide.
            # A softmax over several labels is another order.
            order_by = order_by if self._is_monotone() else scores
        best = np.argsort(-order_by, kind="stable")[:top_k]
        hits = tuple(
            Hit(int(i), float(scores[i]), checked[i], bool(scored.truncated[i]), scored.spans[i]) for i in best
        )
        return Ranking(query, hits, score_type=kind, model=self.checkpoint.name)

    def _score_documents(
        self, query: str, documents: list[Document], encoder: Encoder, on_overflow: OnOverflow, *, show_progress: bool
    ) -> _ScoredDocuments:
        """Score whole documents, or the best window of each that is too long."""
        if self.reads_images:
            documents = with_image_sources(documents)
        if on_overflow == "fewer_tiles":
            encoder = _with_fewer_tiles(encoder, self.checkpoint)
        if on_overflow in ("truncate", "fewer_tiles"):
            scored = self._run([(query, document) for document in documents], encoder, show_progress=show_progress)
            return _ScoredDocuments(scored.logits, scored.truncated, [None] * len(documents))
        windows = self._windows(query, documents, encoder)
        if on_overflow == "error":
            long = [i for i, spans in enumerate(windows) if len(spans) > 1]
            if long:
                raise InputError(
                    f"document {long[0]} does not fit in max_length={self.checkpoint.max_length} tokens beside the "
                    f"query ({len(long)} of {len(documents)} do not): shorten it, or use on_overflow='truncate' or "
                    "'chunk'"
                )
        owners = [i for i, spans in enumerate(windows) for _ in spans]
        spans = [span for spans in windows for span in spans]
        pairs = [(query, _cut(documents[i], span)) for i, span in zip(owners, spans, strict=True)]
        scored = self._run(pairs, encoder, show_progress=show_progress)
        scores = self._scores(scored.logits)
        # Sorted by document, then score, then position: the first of each document is its best window.
        order = np.lexsort((np.arange(len(owners)), -scores, np.array(owners)))
        best = order[np.unique(np.array(owners)[order], return_index=True)[1]]
        kept = [spans[b] for b in best]
        return _ScoredDocuments(scored.logits[best], scored.truncated[best], kept)

    def _windows(self, query: str, documents: list[Document], encoder: Encoder) -> list[list[tuple[int, int] | None]]:
        """Return the windows of each document; `[None]` for one that fits whole."""
        encoded = encoder.encode([(query, document) for document in documents])
        windows: list[list[tuple[int, int] | None]] = []
        for i, document in enumerate(documents):
            if not encoded.truncated[i]:
                windows.append([None])
                continue
            room = encoder.document_room(query, document)
            left = room - encoder.count_tokens(encoder.prompt.document_prefix(document))
            if document.image is not None and room < _LEAST_WINDOW:
                raise InputError(f"beside its image and the query, {room} tokens are left for the text of document {i}")
            if left < room // 2:
                raise InputError(
                    f"the title of document {i} takes more than half of max_length={self.checkpoint.max_length}: "
                    "windows over the text would hold little of it; shorten the title"
                )
            windows.append(list(split_into_windows(document.text, encoder.tokenizer, room=left)))
        return windows

    def _run(
        self, pairs: Sequence[tuple[str, str | Document]], encoder: Encoder, *, show_progress: bool
    ) -> ScoredPairs:
        if self.checkpoint.settings.untrained_head and not self._allow_untrained:
            raise CheckpointError(
                f"{self.checkpoint.name}: the head is fresh, so every score would be random: save the reranker and "
                "train it, or say allow_untrained=True"
            )
        if not pairs:
            return ScoredPairs(np.zeros((0, self.checkpoint.num_labels), np.float32), np.zeros(0, np.bool_))
        with _progress(len(pairs), show=show_progress) as on_progress:
            scored = score_pairs(pairs, encoder=encoder, engine=self.engine, on_progress=on_progress)
        return ScoredPairs(scored.logits / np.float32(self.checkpoint.settings.temperature), scored.truncated)

    def _scores(self, logits: npt.NDArray[np.float32]) -> Scores:
        return np.ascontiguousarray(logits[:, self.checkpoint.label], np.float32)

    def _scale(self, score_type: ScoreType) -> ScoreType:
        """Return the scale that the scores will be on: no probability where the checkpoint knows none."""
        checkpoint = self.checkpoint
        knows = checkpoint.settings.calibration or checkpoint.num_labels > 1 or checkpoint.activation == "sigmoid"
        return score_type if knows else "logit"

    def _is_monotone(self) -> bool:
        return self.checkpoint.settings.calibration is not None or self.checkpoint.num_labels == 1

    def _probabilities(self, logits: npt.NDArray[np.float32]) -> Scores:
        calibration = self.checkpoint.settings.calibration
        if calibration:
            return sigmoid(np.float32(calibration.slope) * self._scores(logits) + np.float32(calibration.intercept))
        if logits.shape[1] == 1:
            return sigmoid(self._scores(logits))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return self._scores(powers / powers.sum(axis=1, keepdims=True))

    def _fusion(self) -> tuple[str, float]:
        fusion = self.checkpoint.settings.fusion
        return (fusion.method, fusion.weight) if fusion else DEFAULT_FUSION


def sigmoid(logits: Scores) -> Scores:
    """Return `1 / (1 + exp(-x))` in float32, without overflow at either end."""
    powers = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1 / (1 + powers), powers / (1 + powers)).astype(np.float32)


def to_document(document: DocumentLike, index: int, *, reads_images: bool = False) -> Document:
    """Return a string, a mapping or a `Document` as a `Document`.

    Args:
        document: What the caller gave.
        index: Its position, for the error.
        reads_images: Whether an image alone is enough.

    Raises:
        InputError: If it is none of these, lacks what is read of it, or has an unknown key or a wrong type.
    """
    if isinstance(document, str):
        return Document(document)
    if isinstance(document, Mapping):
        unknown = [key for key in document if key not in DOCUMENT_KEYS]
        if unknown:
            raise InputError(
                f"document {index} has unknown keys {unknown}; known are {', '.join(DOCUMENT_KEYS)} "
                "(put anything else under 'metadata')"
            )
        if "text" not in document and document.get("image") is None:
            raise InputError(f"document {index} has no 'text'")
        document = Document(**document)
    if not isinstance(document, Document):
        raise InputError(f"document {index} is a {type(document).__name__}: give a string, a Document or a mapping")
    if not isinstance(document.text, str):
        raise InputError(f"the text of document {index} is a {type(document.text).__name__}, not a string")
    if document.title is not None and not isinstance(document.title, str):
        raise InputError(f"the title of document {index} is a {type(document.title).__name__}, not a string")
    if document.image is not None and not document.text.strip() and not reads_images:
        raise InputError(
            f"document {index} is an image without text, and this model reads text: give it a 'text' too, or load a "
            f"model that reads images, of one of the families {image_families()}"
        )
    return document


def _check_pair(pair: object, index: int, *, reads_images: bool) -> tuple[str, str | Document]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise InputError(f"pair {index} must be (query, document), not {str(pair)[:80]!r}")
    query, document = pair
    _check_query(query, where=f" of pair {index}")
    return query, to_document(document, index, reads_images=reads_images)


def _check_query(query: object, *, where: str = "") -> None:
    if not isinstance(query, str):
        raise InputError(f"the query{where} must be a string, not {type(query).__name__}")
    if not query.strip():
        raise InputError(f"the query{where} is empty")


def _check_options(top_k: object, score_type: str, on_overflow: str, *, fused: bool) -> None:
    if top_k is not None and (isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or top_k < 1):
        raise InputError(f"top_k must be a whole number of at least 1, or None for all, not {top_k!r}")
    if score_type not in ("logit", "probability"):
        raise InputError(f"score_type must be 'logit' or 'probability', not {score_type!r}")
    if on_overflow not in get_args(OnOverflow):
        known = ", ".join(map(repr, get_args(OnOverflow)))
        raise InputError(f"on_overflow must be one of {known}, not {on_overflow!r}")
    if fused and score_type != "logit":
        raise InputError("fused scores are no probabilities: leave score_type out where first_stage_scores are given")


def _check_length(first_stage_scores: Sequence[float] | npt.NDArray[Any] | None, num_documents: int) -> None:
    if first_stage_scores is not None and len(first_stage_scores) != num_documents:
        raise InputError(f"{len(first_stage_scores)} first_stage_scores for {num_documents} documents: give one each")


def _cut(document: Document, span: tuple[int, int] | None) -> Document:
    return document if span is None else replace(document, text=document.text[slice(*span)])


def _with_fewer_tiles(encoder: Encoder, checkpoint: Checkpoint) -> VisualEncoder:
    if isinstance(encoder, VisualEncoder):
        return encoder.with_fewer_tiles()
    raise InputError(f"on_overflow='fewer_tiles' is for models that read images, and {checkpoint.name} reads text")


@contextmanager
def _progress(total: int, *, show: bool) -> Iterator[Callable[[int], None] | None]:
    if not show:
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("scoring", total=total)
        yield lambda count: progress.advance(task, count)
