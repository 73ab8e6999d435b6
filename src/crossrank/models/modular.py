"""Cross-encoders in the modular layout of sentence-transformers: body, Pooling, Dense, and norms between them.

Shape letters: `B` pairs of one batch, `T` tokens of the longest, `H` hidden, `L` labels.

Source: the module files that sentence-transformers 6.2 saves; the forward passes are written from their meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.json_files import read_optional_object
from crossrank.models.modular_layout import SCORES, ModuleEntry, whole_number
from crossrank.models.weights import check_safetensors, load_pretrained

_TOKENS, _SENTENCE = "token_embeddings", "sentence_embedding"
_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "torch.nn.modules.activation.GELU": nn.GELU,
    "torch.nn.modules.activation.ReLU": nn.ReLU,
    "torch.nn.modules.activation.SiLU": nn.SiLU,
    "torch.nn.modules.activation.Sigmoid": nn.Sigmoid,
    "torch.nn.modules.activation.Tanh": nn.Tanh,
    "torch.nn.modules.linear.Identity": nn.Identity,
}
_LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}


class ModularCrossEncoder(nn.Module):
    """A body and the stages of its head; the head computes in float32.

    Args:
        body: A transformers encoder.
        stages: What `modules.json` lists after it; each reads named tensors and adds its own.
    """

    def __init__(self, body: nn.Module, stages: list[nn.Module]) -> None:
        super().__init__()
        self.body = body
        self.stages = nn.ModuleList(stages)

    def forward(self, attention_mask: Tensor, **inputs: Tensor) -> Tensor:
        """Return logits, float32 `(B, L)`, for int64 inputs `(B, T)`."""
        hidden_BTH: Tensor = self.body(attention_mask=attention_mask, **inputs).last_hidden_state
        features = {_TOKENS: hidden_BTH.float(), "attention_mask": attention_mask}
        return self._run(features, self.stages)

    @property
    def pooling(self) -> tuple[str, ...]:
        """How token vectors become one; empty where that is not the first stage."""
        first = self.stages[0]
        return first.modes if isinstance(first, _Pooling) else ()

    def score_pooled(self, pooled_BH: Tensor) -> Tensor:
        """Return logits, float32 `(B, L)`, for vectors that are pooled already."""
        return self._run({_SENTENCE: pooled_BH}, self.stages[1:])

    def _run(self, features: dict[str, Tensor], stages: Iterable[nn.Module]) -> Tensor:
        for stage in stages:
            stage(features)
        return features[SCORES]


def load_modular(checkpoint: Checkpoint, *, dtype: torch.dtype) -> ModularCrossEncoder:
    """Load a modular checkpoint in evaluation mode.

    Raises:
        CheckpointError: If a module's weights are missing, damaged or of another shape.
        UnsupportedModel: If a module or an option of one is not known.
    """
    transformer, *rest = checkpoint.modules
    _check_transformer(transformer)
    body = load_pretrained(AutoModel, transformer.folder, dtype=dtype, where=checkpoint.name, optional="pooler.")
    return ModularCrossEncoder(body, [_build(entry) for entry in rest]).eval()


class _Pooling(nn.Module):
    """One vector a pair: the first token, the last, the mean or the maximum of the real tokens, or several of them."""

    def __init__(self, modes: tuple[str, ...]) -> None:
        super().__init__()
        self.modes = modes

    def forward(self, features: dict[str, Tensor]) -> None:
        hidden_BTH, mask_BT1 = features[_TOKENS], features["attention_mask"].unsqueeze(-1)
        pooled = [_POOLINGS[mode](hidden_BTH, mask_BT1) for mode in self.modes]
        features[_SENTENCE] = torch.cat(pooled, dim=-1)


def _pool_last(hidden_BTH: Tensor, mask_BT1: Tensor) -> Tensor:
    last = mask_BT1.sum(dim=1, keepdim=True) - 1  # padding is on the right
    return hidden_BTH.gather(1, last.expand(-1, 1, hidden_BTH.shape[-1])).squeeze(1)


_POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": lambda hidden_BTH, _: hidden_BTH[:, 0],
    "lasttoken": _pool_last,
    "max": lambda hidden_BTH, mask_BT1: hidden_BTH.masked_fill(mask_BT1 == 0, -torch.inf).amax(dim=1),
    "mean": lambda hidden_BTH, mask_BT1: (hidden_BTH * mask_BT1).sum(dim=1) / mask_BT1.sum(dim=1),
}


class _Dense(nn.Module):
    """A linear layer, an activation, and on request what came in added to what goes out."""

    def __init__(self, entry: ModuleEntry) -> None:
        super().__init__()
        config = entry.config
        num_in, num_out = whole_number(entry, "in_features"), whole_number(entry, "out_features")
        self.linear = nn.Linear(num_in, num_out, bias=config.get("bias", True))
        self.activation = _activation(entry)
        self.source = config.get("module_input_name", _SENTENCE)
        self.target = config.get("module_output_name") or self.source
        self.use_residual = bool(config.get("use_residual", False))
        if self.use_residual and num_in != num_out:
            self.residual = nn.Linear(num_in, num_out, bias=False)

    def forward(self, features: dict[str, Tensor]) -> None:
        x = features[self.source]
        out = self.activation(self.linear(x))
        if self.use_residual:
            out = out + (self.residual(x) if hasattr(self, "residual") else x)
        features[self.target] = out


class _LayerNorm(nn.Module):
    def __init__(self, entry: ModuleEntry) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(whole_number(entry, "dimension"))

    def forward(self, features: dict[str, Tensor]) -> None:
        features[_SENTENCE] = self.norm(features[_SENTENCE])


class _Normalize(nn.Module):
    def __init__(self, entry: ModuleEntry) -> None:
        super().__init__()
        self.source = entry.config.get("module_input_name", _SENTENCE)
        self.target = entry.config.get("module_output_name") or self.source

    def forward(self, features: dict[str, Tensor]) -> None:
        features[self.target] = F.normalize(features[self.source], dim=-1)


class _Dropout(nn.Module):
    def forward(self, features: dict[str, Tensor]) -> None:
        """Change nothing: dropout is for training."""


def _build(entry: ModuleEntry) -> nn.Module:
    match entry.kind:
        case "Pooling":
            return _Pooling(_pooling_modes(entry))
        case "Dense":
            return _fill(_Dense(entry), entry)
        case "LayerNorm":
            return _fill(_LayerNorm(entry), entry)
        case "Normalize":
            return _Normalize(entry)
        case "Dropout":
            return _Dropout()
    raise UnsupportedModel(f"{entry.folder}: the module {entry.kind} is not supported in a cross-encoder")


def _check_transformer(entry: ModuleEntry) -> None:
    path = entry.folder / "sentence_bert_config.json"
    options = read_optional_object(path)
    task = options.get("transformer_task", "feature-extraction")
    output = options.get("modality_config", {}).get("text", {}).get("method_output_name", "last_hidden_state")
    if (task, output) != ("feature-extraction", "last_hidden_state"):
        raise UnsupportedModel(f"{path}: transformer_task {task!r} with output {output!r} is not supported")


def _pooling_modes(entry: ModuleEntry) -> tuple[str, ...]:
    stated: Any = entry.config.get("pooling_mode")
    if stated is None:
        stated = [mode for key, mode in _LEGACY_POOLING.items() if entry.config.get(key)] or "mean"
    modes = (stated,) if isinstance(stated, str) else tuple(stated)
    unknown = [mode for mode in modes if mode not in _POOLINGS]
    unknown += [key for key in entry.config if key.startswith("pooling_mode_") and key not in _LEGACY_POOLING
                and entry.config[key]]  # fmt: skip
    if unknown or entry.config.get("include_prompt", True) is not True:
        what = ", ".join(unknown) or "include_prompt: false"
        raise UnsupportedModel(f"{entry.folder / 'config.json'}: pooling {what} is not supported")
    return modes


def _activation(entry: ModuleEntry) -> nn.Module:
    name = entry.config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if name not in _ACTIVATIONS:
        raise UnsupportedModel(f"{entry.folder / 'config.json'}: the activation {name!r} is not supported")
    return _ACTIVATIONS[name]()


def _fill(module: nn.Module, entry: ModuleEntry) -> nn.Module:
    file = entry.folder / "model.safetensors"
    check_safetensors(file)
    try:
        module.load_state_dict(load_file(file))
    except RuntimeError as error:
        raise CheckpointError(f"{file}: does not fit {entry.folder / 'config.json'}: {error}") from None
    return module
