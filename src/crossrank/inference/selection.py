"""Which engine scores a checkpoint: the choice behind `backend`, `device` and `dtype`, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from crossrank.errors import InputError, MissingExtra
from crossrank.inference.engine import Engine
from crossrank.models.checkpoint import Checkpoint

BACKENDS = ("auto", "openvino", "torch")


@dataclass(frozen=True)
class EngineChoice:
    """The runtime that will be used, and why, in one sentence."""

    backend: Literal["openvino", "torch"]
    reason: str


def choose_engine(checkpoint: Checkpoint, *, backend: str = "auto", device: str = "auto") -> EngineChoice:
    """Choose the runtime for a checkpoint without loading it.

    The CPU form goes to OpenVINO. Every other checkpoint, and every other device, goes to torch; a BERT-family
    checkpoint also runs in OpenVINO where torch is not installed.

    Raises:
        InputError: If the backend is unknown, or cannot run on the device or the checkpoint.
    """
    if backend not in BACKENDS:
        raise InputError(f"backend must be one of {', '.join(BACKENDS)}, not {backend!r}")
    if backend == "openvino" and device not in ("auto", "cpu"):
        raise InputError(f"the openvino backend runs on the CPU, not on {device!r}: leave device out, or use torch")
    has_cpu_form = checkpoint.family.layout in ("sequence-classification", "modular")
    if backend == "openvino" and not has_cpu_form:
        raise InputError(
            f"{checkpoint.name}: {checkpoint.family.name} has no CPU form: leave backend out, or use torch"
        )
    if backend != "auto":
        return EngineChoice("openvino" if backend == "openvino" else "torch", "as asked")
    if device not in ("auto", "cpu"):
        return EngineChoice("torch", f"device {device!r} was asked for")
    if checkpoint.openvino_file:
        return EngineChoice("openvino", f"the folder holds the CPU form {checkpoint.openvino_file.name}")
    if not has_cpu_form:
        return EngineChoice("torch", f"{checkpoint.family.name} has no CPU form")
    if find_spec("torch") is None:
        return EngineChoice("openvino", "torch is not installed; OpenVINO runs BERT-family checkpoints without it")
    return EngineChoice("torch", "no CPU form in the folder: `crossrank export` makes one")


def resolve(choice: EngineChoice, *, device: str = "auto", dtype: str = "auto") -> tuple[str, str]:
    """Return the device and the precision that the chosen runtime will compute on and in, without loading anything.

    Raises:
        InputError: If an option is unknown or does not fit this machine.
        MissingExtra: If torch is chosen and not installed.
    """
    if choice.backend == "openvino":
        from crossrank.inference import openvino_engine

        return "cpu", openvino_engine.choose_precision(dtype)
    if find_spec("torch") is None:
        raise MissingExtra("scoring with torch", extra="torch")
    from crossrank.inference import torch_engine

    target = torch_engine.choose_device(device)
    return str(target), torch_engine.choose_precision(dtype, target)


def load_engine(
    checkpoint: Checkpoint,
    *,
    backend: str = "auto",
    device: str = "auto",
    dtype: str = "auto",
    num_threads: int | None = None,
    budget_tokens: int | None = None,
) -> Engine:
    """Load a checkpoint into the runtime that fits it.

    Raises:
        InputError: If an option is unknown or does not fit this machine.
        CheckpointError: If the weights are missing, damaged or of another model.
        MissingExtra: If the runtime is not installed.
    """
    choice = choose_engine(checkpoint, backend=backend, device=device)
    if choice.backend == "openvino":
        from crossrank.inference.openvino_engine import OpenVINOEngine

        return OpenVINOEngine.load(checkpoint, dtype=dtype, num_threads=num_threads, budget_tokens=budget_tokens)
    from crossrank.inference.torch_engine import TorchEngine

    return TorchEngine.load(
        checkpoint, device=device, dtype=dtype, num_threads=num_threads, budget_tokens=budget_tokens
    )
