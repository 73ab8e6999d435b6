"""Checkpoints to the CPU form, a folder with an OpenVINO graph, and back to a plain transformers folder.

Shape letters: `P` pairs, `L` labels.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from crossrank.encoding.pairs import EncodedPairs
from crossrank.errors import CheckpointError, InputError, MissingExtra, UnsupportedModel
from crossrank.inference.engine import Engine
from crossrank.inference.openvino_core import ov
from crossrank.inference.openvino_engine import OpenVINOEngine
from crossrank.inference.openvino_graph import build_graph, supports_graph
from crossrank.inference.verification_pairs import verification_pairs
from crossrank.inference.weight_compression import compress_weights, read_ir_weights
from crossrank.inference.weight_files import read_weights, write_weights
from crossrank.models.checkpoint import Checkpoint, load_encoder, load_tokenizer, open_checkpoint
from crossrank.models.settings import CpuForm, read_settings, write_settings

# How far float32 scores may move, as a share of their spread: far above rounding, far below a wrong graph.
_TOLERANCE = 1e-3
_EXPORTABLE = ("sequence-classification", "modular")
_OPENVINO_FILE = Path("openvino", "openvino_model.xml")
# What describes a checkpoint and is no weights.
_DESCRIPTIONS = ("*.json", "vocab.txt", "merges.txt", "*.model", "README.md", "LICENSE*", "NOTICE*")
_NOT_COPIED = ("*.safetensors.index.json", "*.bin.index.json", "crossrank.json")


@dataclass(frozen=True)
class ExportReport:
    """What an export wrote, and how its scores compare with the original's in float32.

    Attributes:
        folder: What was written.
        weights: `"float32"` or `"int8"`.
        graph: `"built"` directly, or `"traced"` from torch.
        megabytes: Size of the weights file, in units of 10^6 bytes.
        pairs: Number of text pairs that were compared.
        max_abs_error: Largest difference of a raw logit, computed in float32.
        kendall_tau: Agreement of the order of all compared scores, computed in float32; 1 is the same order.
        fast_precision: What `dtype="auto"` means on this machine.
        fast_max_abs_error: As `max_abs_error`, in that precision.
        fast_kendall_tau: As `kendall_tau`, in that precision.
    """

    folder: Path
    weights: str
    graph: str
    megabytes: float
    pairs: int
    max_abs_error: float
    kendall_tau: float
    fast_precision: str
    fast_max_abs_error: float
    fast_kendall_tau: float


def export_checkpoint(
    model: str | Path,
    out: Path,
    *,
    weights: Literal["float32", "int8"] = "float32",
    revision: str | None = None,
) -> ExportReport:
    """Write a checkpoint in the form that is fast on CPUs, and compare its scores with the original's.

    The folder holds the OpenVINO graph, the tokenizer and everything that describes the checkpoint; it is complete when
    it appears under its name.

    Args:
        model: A folder or a name on the hub, with safetensors weights.
        out: The folder to write; it must not exist or be empty.
        weights: `"int8"` stores matrices as int8 with a scale for each row; the arithmetic stays in floating point.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If `out` is not free, or `weights` is neither form.
        CheckpointError: If the checkpoint cannot be loaded, or the float32 graph gives other scores.
        UnsupportedModel: If it is of a family that has no CPU form, such as a language model.
        MissingExtra: If torch is not installed.
    """
    if weights not in ("float32", "int8"):
        raise InputError(f"weights must be 'float32' or 'int8', not {weights!r}")
    _check_free(out)
    checkpoint = replace(open_checkpoint(model, revision=revision, label=0), openvino_file=None)
    if checkpoint.family.layout not in _EXPORTABLE:
        raise UnsupportedModel(
            f"{checkpoint.name}: {checkpoint.family.name} has no CPU form, which holds encoders with a classification "
            "head in the layouts of transformers and sentence-transformers: score it with torch"
        )
    encoded = load_encoder(checkpoint).encode(verification_pairs())
    reference_PL = _load_reference(checkpoint).logits(encoded)
    graph, origin = _make_graph(checkpoint)
    with _appearing_when_complete(out) as folder:
        _write_graph(graph, folder)
        _copy_descriptions(checkpoint, folder)
        _verify_float32(checkpoint, folder, encoded, reference_PL)
        if weights == "int8":
            compress_weights(graph)
            _write_graph(graph, folder)
        written = open_checkpoint(folder, label=0)
        exact = _compare(OpenVINOEngine.load(written, dtype="float32"), encoded, reference_PL)
        fast_engine = OpenVINOEngine.load(written)
        fast = _compare(fast_engine, encoded, reference_PL)
        form = {"weights": weights, "max_abs_error": exact[0], "kendall_tau": exact[1]}
        settings = read_settings(checkpoint.folder)
        write_settings(folder, settings.model_copy(update={"cpu": CpuForm.model_validate(form)}))
        size = (folder / _OPENVINO_FILE).with_suffix(".bin").stat().st_size
    return ExportReport(out, weights, origin, round(size / 1e6, 1), len(encoded), *exact, fast_engine.precision, *fast)


def restore_transformers(model: str | Path | None, out: Path, *, revision: str | None = None) -> Path:
    """Write a plain transformers folder with float32 weights from a checkpoint in the CPU form, and return it.

    Args:
        model: The checkpoint, BERT-like; None is the model that ships in the package.
        out: The folder to write; it must not exist or be empty.
        revision: Branch, tag or commit on the hub.

    Raises:
        InputError: If `out` is not free.
        CheckpointError: If the checkpoint has no CPU form, or its graph has lost the names of its parameters.
    """
    _check_free(out)
    checkpoint = open_checkpoint(model, revision=revision, label=0)
    if checkpoint.openvino_file is None:
        raise CheckpointError(f"{checkpoint.name}: there is no OpenVINO file in {checkpoint.folder}")
    parameters = read_ir_weights(checkpoint.openvino_file)
    with _appearing_when_complete(out) as folder:
        write_weights(folder / "model.safetensors", parameters)
        _copy_descriptions(checkpoint, folder)
        write_settings(folder, read_settings(checkpoint.folder).model_copy(update={"cpu": None}))
    return out


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} is there already: give a folder that does not exist or is empty")


@contextmanager
def _appearing_when_complete(out: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `out` at the end, or vanishes on an error."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as temporary:
        folder = Path(temporary, "checkpoint")
        folder.mkdir()
        yield folder
        if out.is_dir():
            out.rmdir()
        folder.rename(out)


def _load_reference(checkpoint: Checkpoint) -> Engine:
    try:
        from crossrank.inference.torch_engine import TorchEngine
    except ImportError:
        raise MissingExtra("comparing the exported scores with the original's", extra="torch") from None
    return TorchEngine.load(checkpoint, device="cpu", dtype="float32")


def _make_graph(checkpoint: Checkpoint) -> tuple[ov.Model, str]:
    if checkpoint.family.layout == "sequence-classification" and supports_graph(checkpoint.config):
        parameters = read_weights(checkpoint.transformer_folder)
        graph = build_graph(checkpoint.config, parameters, pad_token_id=checkpoint.pad_token_id, where=checkpoint.name)
        return graph, "built"
    from crossrank.inference.torch_conversion import convert_with_torch

    return convert_with_torch(checkpoint), "traced"


def _write_graph(graph: ov.Model, folder: Path) -> None:
    file = folder / _OPENVINO_FILE
    file.parent.mkdir(exist_ok=True)
    ov.save_model(graph, file, compress_to_fp16=False)


def _copy_descriptions(checkpoint: Checkpoint, folder: Path) -> None:
    sources = {checkpoint.folder, checkpoint.transformer_folder, *(module.folder for module in checkpoint.modules)}
    for source in sources:
        target = folder / source.relative_to(checkpoint.folder)
        target.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            if file.is_file() and _matches(file, _DESCRIPTIONS) and not _matches(file, _NOT_COPIED):
                shutil.copyfile(file, target / file.name)
    tokenizer_file = folder / checkpoint.transformer_folder.relative_to(checkpoint.folder) / "tokenizer.json"
    if not tokenizer_file.exists():
        load_tokenizer(checkpoint).save(str(tokenizer_file))


def _matches(file: Path, patterns: tuple[str, ...]) -> bool:
    return any(file.match(pattern) for pattern in patterns)


def _verify_float32(
    checkpoint: Checkpoint, folder: Path, encoded: EncodedPairs, reference_PL: npt.NDArray[np.float32]
) -> None:
    engine = OpenVINOEngine.load(open_checkpoint(folder, label=0), dtype="float32")
    error, tau = _compare(engine, encoded, reference_PL)
    spread = float(np.ptp(reference_PL))
    if error > _TOLERANCE * max(1.0, spread):
        raise CheckpointError(
            f"{checkpoint.name}: the OpenVINO graph gives other scores than torch in float32 (largest difference "
            f"{error:.4g} of a spread of {spread:.4g}, Kendall tau {tau:.4f}); nothing was written. This kind of model "
            "cannot be exported: use it with backend='torch'"
        )


def _compare(engine: Engine, encoded: EncodedPairs, reference_PL: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest absolute difference, and the lowest Kendall tau of a label."""
    logits_PL = engine.logits(encoded)
    taus = [kendall_tau(logits_PL[:, label], reference_PL[:, label]) for label in range(reference_PL.shape[1])]
    return float(np.abs(logits_PL - reference_PL).max()), min(taus)


def kendall_tau(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> float:
    """Return Kendall's tau-b of two score lists `(P,)`: 1 for the same order, -1 for the opposite.

    Source: Kendall, "The treatment of ties in ranking problems" (1945).
    """
    left_PP, right_PP = (np.sign(scores[:, None] - scores[None]) for scores in (left, right))
    untied = float(np.sqrt(np.abs(left_PP).sum() * np.abs(right_PP).sum()))
    return float((left_PP * right_PP).sum()) / untied if untied else 1.0
