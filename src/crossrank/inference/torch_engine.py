"""The torch engine: every supported checkpoint on every device, without padding where device and family allow it.

Shape letters: `P` pairs, `B` pairs of one batch, `N` tokens of one batch, `L` labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import EncodedPairs
from crossrank.errors import InputError, MissingExtra
from crossrank.inference.engine import check_positive
from crossrank.inference.planner import plan_batches
from crossrank.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from crossrank.models.packed_bert import PackedBert
    from crossrank.models.packed_model import PackedModel

BatchForward = Callable[[EncodedPairs, npt.NDArray[np.int64]], "torch.Tensor"]

_DTYPES = ("float32", "bfloat16", "float16")
# Tokens of one batch: on a CPU what its caches hold, elsewhere enough to fill the device.
_CPU_BUDGET, _DEVICE_BUDGET = 2048, 32768


class TorchEngine:
    """Encoded pairs to raw logits with torch; safe to call from many threads.

    Attributes:
        name: `"torch"`.
        device: As in `"cpu"` or `"cuda:0"`.
        precision: Of the arithmetic, `"float32"`, `"bfloat16"` or `"float16"`.
    """

    name = "torch"

    def __init__(
        self, forward: BatchForward, *, device: str, precision: str, num_labels: int, budget_tokens: int
    ) -> None:
        self._forward = forward
        self.device = device
        self.precision = precision
        self._num_labels = num_labels
        self._budget_tokens = budget_tokens

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        device: str = "auto",
        dtype: str = "auto",
        num_threads: int | None = None,
        budget_tokens: int | None = None,
        model: PreTrainedModel | None = None,
    ) -> TorchEngine:
        """Load the weights of a checkpoint onto a device.

        Args:
            checkpoint: What to load.
            device: `"auto"` takes CUDA, else MPS, else the CPU; otherwise a device of torch such as `"cuda:1"`.
            dtype: `"auto"` is bfloat16 on a CUDA device that has it and float32 elsewhere.
            num_threads: CPU threads of one call, for the whole process; None leaves it to torch.
            budget_tokens: Most tokens of a batch; None is a good number for the device.
            model: A classifier in memory instead of the checkpoint's weights; it keeps its precision.

        Raises:
            MissingExtra: If torch or transformers is not installed.
            InputError: If an option does not fit this machine.
            CheckpointError: If the weights are missing, damaged or of another model.
        """
        try:
            import torch
            import transformers  # noqa: F401  the loaders import it
        except ImportError:
            raise MissingExtra(f"scoring {checkpoint.name} with torch", extra="torch") from None
        target = choose_device(device)
        precision = choose_precision(dtype, target) if model is None else str(model.dtype).removeprefix("torch.")
        threads = check_positive("num_threads", num_threads)
        if threads is not None:
            torch.set_num_threads(threads)
        default_budget = _CPU_BUDGET if target.type == "cpu" else _DEVICE_BUDGET
        return cls(
            _load_forward(checkpoint, target, getattr(torch, precision))
            if model is None
            else _padded_forward(model.to(target), checkpoint, target),
            device=str(target),
            precision=precision,
            num_labels=checkpoint.num_labels,
            budget_tokens=check_positive("budget_tokens", budget_tokens) or default_budget,
        )

    def plan(self, lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Return the batches that pairs of these lengths, int64 `(P,)`, are computed in."""
        return plan_batches(lengths, budget_tokens=self._budget_tokens)

    def logits(self, encoded: EncodedPairs) -> npt.NDArray[np.float32]:
        """Return the raw logits, float32 `(P, L)`, in the order given."""
        logits_PL = np.empty((len(encoded), self._num_labels), np.float32)
        batches = self.plan(encoded.lengths)
        # All are handed over before the first is read, so that a GPU computes while the next ones are put together.
        results = [self._forward(encoded, rows) for rows in batches]
        for rows, logits in zip(batches, results, strict=True):
            logits_PL[rows] = logits.float().cpu().numpy()
        return logits_PL


def _load_forward(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> BatchForward:
    """Choose the loader by the family's layout, and the fastest exact forward pass by the device."""
    from crossrank.models.onednn import replace_linears
    from crossrank.models.packed_attention import can_pack
    from crossrank.models.packed_bert import PackedBert, supports_packing
    from crossrank.models.packed_model import pack_model

    model: torch.nn.Module
    if checkpoint.family.layout not in ("sequence-classification", "renamed"):
        from crossrank.models.loading import load_scorer

        model = load_scorer(checkpoint, dtype=dtype)
    else:
        model = classifier = _load_classifier(checkpoint, dtype)
        if can_pack(device, dtype) and supports_packing(classifier):
            return _packed_forward(PackedBert(classifier.to(device)), checkpoint, device)
    if device.type == "cpu":
        replace_linears(model)
    model.to(device)
    packed = None
    # A class that the table does not know keeps its native attention: what a few short texts cannot show may differ.
    if can_pack(device, dtype) and checkpoint.family.layout != "native" and checkpoint.visual is None:
        packed = pack_model(model, uses_segments=checkpoint.uses_segments)
    return _packed_forward(packed, checkpoint, device) if packed else _padded_forward(model, checkpoint, device)


def _load_classifier(checkpoint: Checkpoint, dtype: torch.dtype) -> PreTrainedModel:
    """Load from safetensors, or where a folder has only the CPU form, from the constants of its graph."""
    from crossrank.models.sequence_classification import fill_sequence_classifier, load_sequence_classifier
    from crossrank.models.weights import has_weight_files

    if checkpoint.openvino_file is None or has_weight_files(checkpoint.transformer_folder):
        return load_sequence_classifier(checkpoint, dtype=dtype)
    import torch

    from crossrank.inference.weight_compression import read_ir_weights

    tensors = {name: torch.tensor(array) for name, array in read_ir_weights(checkpoint.openvino_file).items()}
    return fill_sequence_classifier(checkpoint, tensors, dtype=dtype)


def _packed_forward(packed: PackedBert | PackedModel, checkpoint: Checkpoint, device: torch.device) -> BatchForward:
    import torch

    from crossrank.models.packed_attention import pack

    def joined(arrays: list[npt.NDArray[np.int32]], rows: npt.NDArray[np.int64]) -> torch.Tensor:
        row = torch.from_numpy(np.concatenate([arrays[i] for i in rows]).astype(np.int64))
        return row.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else row

    def forward(encoded: EncodedPairs, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        input_ids = joined(encoded.input_ids, rows)
        types = joined(encoded.token_type_ids, rows) if checkpoint.uses_segments else torch.zeros_like(input_ids)
        return packed(input_ids, types, pack(encoded.lengths[rows].tolist(), device))

    return forward


def _padded_forward(model: torch.nn.Module, checkpoint: Checkpoint, device: torch.device) -> BatchForward:
    import torch

    @torch.inference_mode()
    def forward(encoded: EncodedPairs, rows: npt.NDArray[np.int64]) -> torch.Tensor:
        batch = pad(encoded, rows, pad_token_id=checkpoint.pad_token_id)
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        if checkpoint.uses_segments:
            inputs["token_type_ids"] = batch.token_type_ids
        shown = {"images": [encoded.images[row] for row in rows]} if encoded.images else {}
        output = model(**{name: torch.from_numpy(array).to(device) for name, array in inputs.items()}, **shown)
        logits: torch.Tensor = output if isinstance(output, torch.Tensor) else output.logits
        return logits

    return forward


def choose_device(device: str) -> torch.device:
    """Return the device that a name stands for; `"auto"` takes CUDA, else MPS, else the CPU.

    Raises:
        InputError: If it is unknown, or not there.
    """
    import torch

    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if has[name]))
    try:
        target = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(
            f"device {device!r} is not one of torch: give 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'"
        ) from None
    if not has.get(target.type, False):
        present = ", ".join(name for name, there in has.items() if there)
        raise InputError(f"device {device!r} is not there; torch sees: {present}")
    return target


def choose_precision(dtype: str, device: torch.device) -> str:
    """Return the precision that `dtype` stands for on a device.

    Raises:
        InputError: If it is unknown.
    """
    import torch

    if dtype == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be 'auto', {', '.join(map(repr, _DTYPES))}, not {dtype!r}")
    return dtype
