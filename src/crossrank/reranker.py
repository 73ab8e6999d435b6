"""The front door: a checkpoint that scores pairs and ranks documents.

Shape letters: `N` documents, each beside its query; `P` pairs to compute for them; `L` labels.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import WHAT_FITS, EncodedPairs, Truncation
from crossrank.encoding.visual import Encoder
from crossrank.errors import MissingExtra
from crossrank.inference.engine import Engine
from crossrank.inference.inputs import check_documents, check_first, check_options, check_pairs, with_image_sources
from crossrank.inference.overflow import (
    OnOverflow,
    PreparedDocuments,
    ScoredDocuments,
    Windows,
    best_windows,
    cut,
    encoder_for,
    sorted_hits,
)
from crossrank.inference.progress import progress_bar
from crossrank.inference.score_scale import ScoreScale, ScoreType, sigmoid
from crossrank.inference.scoring import ScoredPairs, check_finite, score_encoded, score_pairs
from crossrank.inference.selection import load_engine
from crossrank.models.checkpoint import Checkpoint, load_encoder, open_checkpoint
from crossrank.models.settings import DEFAULT_FUSION
from crossrank.retrieval.fusion import fuse
from crossrank.types import Document, DocumentLike, Ranking, Scores, check_query

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["PreparedDocuments", "Reranker", "ScoreType", "sigmoid"]

logger = logging.getLogger(__name__)


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
        self._scale = ScoreScale(checkpoint)
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
            model,
            revision=revision,
            max_length=max_length,
            label=label,
            family=family,
            cutoff_layer=cutoff_layer,
            max_input_tiles=max_input_tiles,
        )
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
        return save_loaded(Path(folder).expanduser(), self.checkpoint, model=self._fresh_model)

    @property
    def reads_images(self) -> bool:
        """Whether documents may be images."""
        return self.checkpoint.visual is not None

    def __repr__(self) -> str:
        engine = self.engine
        return f"Reranker({self.checkpoint.name!r}, {engine.name} on {engine.device} in {engine.precision})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be pickled or copied: load it in each process that needs it")

    @property
    def takes_instruction(self) -> bool:
        """Whether the prompt has a place for an instruction."""
        return self._encoder.takes_instruction

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
        return self.score_with_truncation(pairs, instruction=instruction, show_progress=show_progress)[0]

    def score_with_truncation(
        self,
        pairs: Sequence[tuple[str, str | Document]],
        *,
        instruction: str | None = None,
        show_progress: bool = False,
    ) -> tuple[Scores, npt.NDArray[np.bool_]]:
        """Return what `score` returns, and whether each document lost text, bool `(P,)`.

        Raises:
            InputError, NumericalError: As `score`.
        """
        checked = check_pairs(pairs, reads_images=self.reads_images, what="the document of pair")
        encoder = self._encoder.with_instruction(instruction)
        scored = self._run(cut(checked, encoder=encoder, on_overflow="truncate"), encoder, show_progress=show_progress)
        return self._scale.scores(scored.logits), scored.truncated

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
        check_query(query)
        check_options(top_k, score_type, on_overflow, fused=first_stage_scores is not None)
        checked = check_documents(documents, reads_images=self.reads_images)
        first_stage = check_first(first_stage_scores, len(checked))
        encoder = encoder_for(on_overflow, self._encoder.with_instruction(instruction))
        kind = "fused" if first_stage_scores is not None else self._scale.named(score_type)
        if not checked:
            return Ranking(query, (), score_type=kind, model=self.checkpoint.name)
        pairs = with_image_sources([(query, document) for document in checked], reads_images=self.reads_images)
        windows = cut(pairs, encoder=encoder, on_overflow=on_overflow)
        computed = self._run(windows, encoder, show_progress=show_progress)
        scored = self._collect(windows, computed)
        if first_stage_scores is None:
            return self.to_ranking(query, checked, scored, top_k=top_k, score_type=score_type)
        fusion, logits = self.checkpoint.settings.fusion or DEFAULT_FUSION, self._scale.scores(scored.logits)
        fused = fuse(logits, first_stage, method=fusion.method, weight=fusion.weight)
        hits = sorted_hits(checked, scored, fused, order_by=fused, top_k=top_k)
        return Ranking(query, hits, score_type="fused", model=self.checkpoint.name)

    def prepare(
        self,
        pairs: Sequence[tuple[str, str | Document]],
        *,
        on_overflow: OnOverflow = "truncate",
        truncation: Truncation = WHAT_FITS,
        instruction: str | None = None,
    ) -> PreparedDocuments:
        """Encode documents beside their queries: the first of the steps of `rank`, for a server.

        A server prepares each request by itself, and computes the pairs of many requests in one `compute`.

        Args:
            pairs: Query and document, `(N,)`.
            on_overflow: As in `rank`.
            truncation: To read less of a pair than the checkpoint can.
            instruction: As in `rank`.

        Raises:
            InputError: If an item is not a pair, a query leaves no room, or a document is too long under `"error"`.
        """
        checked = check_pairs(pairs, reads_images=self.reads_images)
        self.checkpoint.check_trained(allow_untrained=self._allow_untrained)
        encoder = encoder_for(on_overflow, self._encoder.with_instruction(instruction).with_truncation(truncation))
        windows = cut(checked, encoder=encoder, on_overflow=on_overflow)
        return PreparedDocuments(windows, encoder.encode(windows.pairs) if windows.encoded is None else windows.encoded)

    def compute(self, encoded: EncodedPairs) -> npt.NDArray[np.float32]:
        """Return the logits of encoded pairs, of any number of requests, float32 `(P, L)`, in the order given."""
        return self.engine.logits(encoded) / np.float32(self.checkpoint.settings.temperature)

    def collect(self, prepared: PreparedDocuments, logits: npt.NDArray[np.float32]) -> ScoredDocuments:
        """Return what the logits of prepared documents, float32 `(P, L)`, say of each of the `N` documents.

        Raises:
            NumericalError: If a logit is NaN or infinite; names the pair.
        """
        check_finite(logits, precision=self.engine.precision)
        return self._collect(prepared.windows, ScoredPairs(logits, prepared.encoded.truncated))

    def to_scores(self, scored: ScoredDocuments, score_type: ScoreType = "logit") -> tuple[Scores, ScoreType]:
        """Return one score a document, float32 `(N,)`, in the order given, and its scale; `score_type` as in `rank`."""
        return self._scale.convert(scored.logits, score_type)

    def to_ranking(
        self,
        query: str,
        documents: Sequence[Document],
        scored: ScoredDocuments,
        *,
        top_k: int | None = None,
        score_type: ScoreType = "logit",
    ) -> Ranking:
        """Return the ranking of the scored documents of one query; the options are those of `rank`."""
        scores, scale = self.to_scores(scored, score_type)
        # A probability grows with its logit, but float32 rounds the large ones to the same 1: the logits decide.
        # A softmax over several labels is another order.
        order_by = self._scale.scores(scored.logits) if self._scale.is_monotone else scores
        hits = sorted_hits(documents, scored, scores, order_by=order_by, top_k=top_k)
        return Ranking(query, hits, score_type=scale, model=self.checkpoint.name)

    def _collect(self, windows: Windows, computed: ScoredPairs) -> ScoredDocuments:
        scores = self._scale.scores(computed.logits)
        return best_windows(computed.logits, scores, computed.truncated, windows=windows)

    def _run(self, windows: Windows, encoder: Encoder, *, show_progress: bool) -> ScoredPairs:
        self.checkpoint.check_trained(allow_untrained=self._allow_untrained)
        pairs, engine = windows.pairs, self.engine
        if not pairs:
            return ScoredPairs(np.zeros((0, self.checkpoint.num_labels), np.float32), np.zeros(0, np.bool_))
        with progress_bar(len(pairs), show=show_progress) as on_progress:
            if windows.encoded is None:
                scored = score_pairs(pairs, encoder=encoder, engine=engine, on_progress=on_progress)
            else:
                scored = score_encoded(windows.encoded, engine=engine, on_progress=on_progress)
        return ScoredPairs(scored.logits / np.float32(self.checkpoint.settings.temperature), scored.truncated)
