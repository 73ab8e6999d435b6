"""The OpenVINO engine: the fast path on CPUs. Several streams of one thread each, no padding in the linear layers.

Shape letters: `P` pairs, `B` pairs of one batch, `L` labels.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from crossrank.encoding.collation import pad
from crossrank.encoding.pairs import EncodedPairs
from crossrank.errors import CheckpointError, InputError
from crossrank.inference.cpu_cores import count_usable_cores
from crossrank.inference.engine import check_positive
from crossrank.inference.openvino_core import CORE, ov
from crossrank.inference.openvino_graph import build_graph
from crossrank.inference.planner import plan_batches
from crossrank.inference.weight_compression import read_ir, unfold_weights
from crossrank.inference.weight_files import read_weights
from crossrank.models.checkpoint import Checkpoint

# Tokens of one batch: large enough to read the weights from memory seldom, small enough to stay in the caches.
DEFAULT_BUDGET_TOKENS = 1024

# Batches are padded to a multiple of this many tokens, and the plugin keeps what it prepared for this many shapes: it
# would otherwise hold memory for each of the thousands of shapes that a long run has.
_ROUND_LENGTH = 16
_NUM_KEPT_SHAPES = 64

_PRECISIONS = {"float32": ("FP32", "f32"), "bfloat16": ("BF16", "bf16"), "float16": ("FP16", "f16")}
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _Workers(NamedTuple):
    """What computes in one process: requests that are free, and the threads that take them."""

    process_id: int
    requests: SimpleQueue[Any]
    threads: ThreadPoolExecutor


class OpenVINOEngine:
    """Encoded pairs to raw logits with OpenVINO on the CPU; safe to call from many threads.

    Attributes:
        name: `"openvino"`.
        device: `"cpu"`.
        precision: Of the arithmetic, `"float32"`, `"bfloat16"` or `"float16"`.
        num_threads: Batches that are computed at the same time, one thread each.
        budget_tokens: Most tokens of a batch.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self, model: ov.Model, checkpoint: Checkpoint, *, precision: str, num_threads: int, budget_tokens: int
    ) -> None:
        self.precision = precision
        self.num_threads = num_threads
        self.budget_tokens = budget_tokens
        self._num_labels = checkpoint.num_labels
        self._pad_token_id = checkpoint.pad_token_id
        self._uses_segments = checkpoint.uses_segments
        self._inputs = [name for name in _INPUTS if name in _tensor_names(model.inputs)]
        # A traced graph has no positions beyond its limit, also not for padding.
        self._round_length = 1 if checkpoint.max_length % _ROUND_LENGTH else _ROUND_LENGTH
        self._checkpoint = checkpoint
        self._workers = _start_workers(model, precision, num_threads)
        self._inherited: list[_Workers] = []

    @classmethod
    def load(
        cls,
        checkpoint: Checkpoint,
        *,
        dtype: str = "auto",
        num_threads: int | None = None,
        budget_tokens: int | None = None,
    ) -> OpenVINOEngine:
        """Load the OpenVINO file of a checkpoint, or build the graph of a BERT-like one from its weights.

        Args:
            checkpoint: What to load.
            dtype: `"auto"` is bfloat16 where the CPU computes in it and float32 elsewhere.
            num_threads: Batches computed at the same time; None is one for each core that the process may use.
            budget_tokens: Most tokens of a batch; None is a good number for caches of today.

        Raises:
            InputError: If an option does not fit this machine.
            CheckpointError: If the files are missing, damaged or of another model.
            UnsupportedModel: If there is no OpenVINO file and the model is not BERT-like.
        """
        precision = choose_precision(dtype)
        return cls(
            _load_model(checkpoint),
            checkpoint,
            precision=precision,
            num_threads=check_positive("num_threads", num_threads) or count_usable_cores(),
            budget_tokens=check_positive("budget_tokens", budget_tokens) or DEFAULT_BUDGET_TOKENS,
        )

    def plan(self, lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Return the batches that pairs of these lengths, int64 `(P,)`, are computed in."""
        return plan_batches(lengths, budget_tokens=self.budget_tokens, num_streams=self.num_threads)

    def logits(self, encoded: EncodedPairs) -> npt.NDArray[np.float32]:
        """Return the raw logits, float32 `(P, L)`, in the order given.

        A logit does not depend on the other pairs, on their order or on padding, beyond rounding: differences stay
        below 1e-4 in float32; in bfloat16 they are those of the precision itself.
        """
        if self._workers.process_id != os.getpid():
            # A fork copies this object, but neither its threads nor those of the runtime: they begin anew. The old ones
            # are kept, as letting them go would wait for threads that are not there.
            self._inherited.append(self._workers)
            self._workers = _start_workers(_load_model(self._checkpoint), self.precision, self.num_threads)
        batches = self.plan(encoded.lengths)
        logits_PL = np.empty((len(encoded), self._num_labels), np.float32)
        # One batch is computed where it is asked for: two changes of thread would be a good part of its time.
        workers = self._workers
        compute = partial(self._compute, encoded, workers.requests)
        computed = workers.threads.map(compute, batches) if len(batches) > 1 else map(compute, batches)
        for rows, logits_BL in zip(batches, computed, strict=True):
            logits_PL[rows] = logits_BL
        return logits_PL

    def _compute(
        self, encoded: EncodedPairs, requests: SimpleQueue[Any], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float32]:
        batch = pad(encoded, rows, pad_token_id=self._pad_token_id, multiple_of=self._round_length)
        if not self._uses_segments:
            batch.token_type_ids.fill(0)
        inputs = {name: getattr(batch, name) for name in self._inputs}
        request = requests.get()
        try:
            request.infer(inputs, share_inputs=True)
            return np.array(request.get_output_tensor(0).data, np.float32)
        finally:
            requests.put(request)


def _load_model(checkpoint: Checkpoint) -> ov.Model:
    if checkpoint.openvino_file is None:
        return build_graph(
            checkpoint.config,
            read_weights(checkpoint.transformer_folder),
            pad_token_id=checkpoint.pad_token_id,
            where=checkpoint.name,
        )
    model = read_ir(checkpoint.openvino_file)
    _check_border(model, checkpoint)
    unfold_weights(model)
    return model


def _check_border(model: ov.Model, checkpoint: Checkpoint) -> None:
    """Check that a graph from a file takes the inputs and gives the outputs of a scorer of pairs."""
    names = _tensor_names(model.inputs)
    if not {"input_ids", "attention_mask"} <= names <= set(_INPUTS) or len(model.outputs) != 1:
        raise CheckpointError(
            f"{checkpoint.openvino_file}: not a graph that scores pairs: it takes {sorted(names)} and gives "
            f"{len(model.outputs)} outputs; export the checkpoint again"
        )
    shape = model.outputs[0].get_partial_shape()
    if len(shape) != 2 or not shape[1].compatible(ov.Dimension(checkpoint.num_labels)):
        raise CheckpointError(
            f"{checkpoint.openvino_file}: gives logits of shape {shape}, but config.json says {checkpoint.num_labels} "
            "labels: is it the file of another model?"
        )


def _start_workers(model: ov.Model, precision: str, num_threads: int) -> _Workers:
    compiled = _compile(model, precision, num_threads)
    # One request and one Python thread more than streams: the next batch is padded while the streams compute.
    num_requests = num_threads + 1
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(num_requests):
        requests.put(compiled.create_infer_request())
    threads = ThreadPoolExecutor(num_requests, thread_name_prefix="crossrank-openvino")
    return _Workers(os.getpid(), requests, threads)


def _compile(model: ov.Model, precision: str, num_threads: int) -> ov.CompiledModel:
    return CORE.compile_model(
        model,
        "CPU",
        {
            "NUM_STREAMS": num_threads,
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": _PRECISIONS[precision][1],
            # Left alone, the plugin would round the inputs of int8 layers to int8 as well.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
            "CPU_RUNTIME_CACHE_CAPACITY": _NUM_KEPT_SHAPES,
            # Pinned, the streams of every process and of every model would share the machine's first cores.
            "ENABLE_CPU_PINNING": False,
        },
    )


def choose_precision(dtype: str) -> str:
    """Return the precision that `dtype` stands for on this CPU.

    Raises:
        InputError: If it is unknown, or this CPU does not compute in it.
    """
    if dtype not in ("auto", *_PRECISIONS):
        raise InputError(f"dtype must be 'auto', {', '.join(map(repr, _PRECISIONS))}, not {dtype!r}")
    able = CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if dtype == "auto":
        return "bfloat16" if "BF16" in able else "float32"
    if _PRECISIONS[dtype][0] not in able:
        raise InputError(f"this CPU does not compute in {dtype}: use dtype='float32' or 'auto'")
    return dtype


def _tensor_names(ports: list[Any]) -> set[str]:
    return {port.get_any_name() for port in ports if port.get_names()}
