"""Any torch cross-encoder to an OpenVINO graph, by tracing: for families that `openvino_graph` does not build.

Shape letters: `B` pairs of one batch, `T` tokens of the longest, `L` labels.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from crossrank.inference.openvino_core import ov
from crossrank.models.checkpoint import Checkpoint


def convert_with_torch(checkpoint: Checkpoint) -> ov.Model:
    """Load a checkpoint in torch and trace it.

    The graph takes `input_ids` and `attention_mask`, and `token_type_ids` where the model reads them, int64 `(B, T)`,
    and gives `logits`, float32 `(B, L)`.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    module = _FromPositions(_load(checkpoint), uses_segments=checkpoint.uses_segments)
    # Two rows, one of them padded, so that the tracer sees no size or mask that is special.
    input_ids = torch.arange(16).reshape(2, 8) % 5 + 5
    attention_mask = torch.ones_like(input_ids)
    input_ids[1, 6:], attention_mask[1, 6:] = checkpoint.pad_token_id, 0
    examples = {"input_ids": input_ids, "attention_mask": attention_mask}
    if checkpoint.uses_segments:
        examples["token_type_ids"] = torch.zeros_like(input_ids)
    return _name_ports(_trace(module, tuple(examples.values())), list(examples))


class _FromPositions(nn.Module):
    """Positional inputs, a bare tensor out: what a tracer follows best."""

    def __init__(self, model: nn.Module, *, uses_segments: bool) -> None:
        super().__init__()
        self.model = model
        self.uses_segments = uses_segments

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Return logits, float32 `(B, L)`."""
        inputs = {"token_type_ids": token_type_ids} if self.uses_segments else {}
        output = self.model(input_ids=input_ids, attention_mask=attention_mask, **inputs)
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits


def _load(checkpoint: Checkpoint) -> nn.Module:
    if checkpoint.family.layout == "modular":
        from crossrank.models.modular import load_modular

        modular = load_modular(checkpoint, dtype=torch.float32)
        _use_eager_attention(modular.body)
        return modular
    from crossrank.models.sequence_classification import load_sequence_classifier

    classifier: Any = load_sequence_classifier(checkpoint, dtype=torch.float32)
    _use_eager_attention(classifier)
    return classifier  # type: ignore[no-any-return]


def _use_eager_attention(model: Any) -> None:
    """Fused attention takes shortcuts that depend on the example's mask; a trace would keep them for every batch."""
    model.set_attn_implementation("eager")


@torch.inference_mode()
def _trace(module: nn.Module, examples: tuple[Tensor, ...]) -> ov.Model:
    # The front end itself rather than `openvino.convert_model`, which reports every call to its makers.
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    frontend = FrontEndManager().load_by_framework("pytorch")
    with warnings.catch_warnings():
        # Tracing is old and knows one path only; that the path is right for other batches is verified afterwards.
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(module, example_input=examples)
        return frontend.convert(frontend.load(decoder))  # reads the decoder, so it has to live until here


def _name_ports(model: ov.Model, names: list[str]) -> ov.Model:
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(ov.PartialShape([-1, -1]))
        port.get_node().set_element_type(ov.Type.i64)
    model.outputs[0].get_tensor().set_names({"logits"})
    model.validate_nodes_and_infer_types()
    return model
