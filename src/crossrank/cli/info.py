"""`crossrank info`: everything that a checkpoint says of itself."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from crossrank.cli.loading import FamilyOption, RevisionOption
from crossrank.cli.models import describe_licence, list_files
from crossrank.cli.options import JsonOption, ModelArgument
from crossrank.cli.terminal import format_size, print_facts, print_json
from crossrank.errors import CheckpointError

if TYPE_CHECKING:
    from crossrank.models.checkpoint import Checkpoint

_ATTENTION = {
    "nemotron-vl": "bidirectional: every token sees every other",
    "qwen-vl": "causal, as trained",
    "bidirectional": "bidirectional: every token sees every other",
    "causal-lm": "causal, as trained",
    "decoder": "causal, as trained",
    "layerwise": "causal, as trained",
}
# The same size has other names in some families.
_SIZES = {
    "hidden_size": ("hidden_size", "dim"),
    "num_layers": ("num_hidden_layers", "n_layers"),
    "num_heads": ("num_attention_heads", "n_heads"),
    "intermediate_size": ("intermediate_size", "hidden_dim"),
    "vocab_size": ("vocab_size",),
    "max_positions": ("max_position_embeddings",),
}


def info(
    model: ModelArgument, revision: RevisionOption = None, family: FamilyOption = None, as_json: JsonOption = False
) -> None:
    """Show everything that a checkpoint says of itself; its weights are not loaded."""
    from crossrank.inference.selection import choose_engine
    from crossrank.models.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(model, revision=revision, label=0, family=family)
    engine = choose_engine(checkpoint)
    facts = describe(checkpoint) | {"engine": f"{engine.backend}: {engine.reason}"}
    if as_json:
        print_json(facts)
        return
    files = {name: format_size(size) for name, size in facts["files"].items()}
    print_facts(checkpoint.name, facts | {"files": files})


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a checkpoint says of itself, as plain values.

    Raises:
        CheckpointError: If the header of a weights file cannot be read.
    """
    config, settings = checkpoint.config, checkpoint.settings.model_dump(mode="json")
    labels = config.get("id2label") or {}
    pooling, temperature = _head(checkpoint)
    return {
        "model": checkpoint.name,
        "folder": str(checkpoint.folder),
        "family": f"{checkpoint.family.name}: {checkpoint.family.description}",
        "chosen_because": checkpoint.family_reason,
        "licence": describe_licence(checkpoint.licence, non_commercial=checkpoint.non_commercial),
        "architecture": ", ".join(config.get("architectures") or []) or None,
        "modules": [module.kind for module in checkpoint.modules],
        "scoring": checkpoint.family.scoring,
        "attention": _ATTENTION.get(checkpoint.family.layout, "native, as transformers has it"),
        "sizes": _sizes(config),
        "weights": _weights(checkpoint),
        "labels": [str(labels.get(str(i), f"LABEL_{i}")) for i in range(checkpoint.num_labels)],
        "max_length": checkpoint.max_length,
        "images": images_of(checkpoint),
        "prompt": settings["prompt"],
        "template": _template(checkpoint),
        "pooling": pooling,
        "cutoff_layer": checkpoint.cutoff_layer,
        "temperature": temperature,
        "activation": checkpoint.activation,
        "calibration": settings["calibration"],
        "fusion": settings["fusion"],
        "cpu": settings["cpu"],
        "untrained_head": settings["untrained_head"],
        "lora_base": str(checkpoint.base_folder) if checkpoint.base_folder else None,
        "provenance": settings["provenance"],
        "files": list_files(checkpoint.folder),
    }


def _head(checkpoint: Checkpoint) -> tuple[str | None, float]:
    """Return the pooling, and what the score of the head is divided by, in the network and behind it."""
    config, settings, family = checkpoint.config, checkpoint.settings, checkpoint.family
    if family.layout == "nemotron-vl":
        return config.get("pooling", "last"), config.get("temperature", 1.0) * settings.temperature
    if family.layout != "bidirectional":
        return settings.pooling or family.pooling or config.get("classifier_pooling"), settings.temperature
    from crossrank.models.bidirectional_layout import read_head

    pooling, temperature = read_head(config, checkpoint.name)
    return pooling, temperature * settings.temperature


def images_of(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Say how images are read, where they are."""
    visual = checkpoint.visual
    if visual is None:
        return None
    return {"max_length": asdict(visual.limits), "sizing": asdict(visual.sizing), "with_text": visual.prompt.reads_both}


def _template(checkpoint: Checkpoint) -> dict[str, Any] | str | None:
    """Say how a pair becomes one sequence, where it does."""
    if checkpoint.uses_chat_template:
        instruction = checkpoint.default_instruction
        default = f" with the instruction {instruction!r} by default" if instruction else ""
        return f"the chat template of the tokenizer{default}"
    return asdict(checkpoint.template) if checkpoint.template else None


def _sizes(config: dict[str, Any]) -> dict[str, int]:
    config = config.get("llm_config") or config.get("text_config") or config
    found = {name: next((config[key] for key in keys if key in config), None) for name, keys in _SIZES.items()}
    return {name: value for name, value in found.items() if isinstance(value, int)}


def _weights(checkpoint: Checkpoint) -> dict[str, Any]:
    """Count parameters and list their types, off the headers of the safetensors files."""
    from safetensors import SafetensorError, safe_open

    num_parameters, dtypes = 0, set()
    for path in sorted(checkpoint.folder.rglob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                for key in file.keys():  # noqa: SIM118 - not a mapping
                    tensor = file.get_slice(key)
                    num_parameters += math.prod(tensor.get_shape())
                    dtypes.add(tensor.get_dtype())
        except SafetensorError as error:
            raise CheckpointError(f"{path}: not a readable safetensors file ({error}); copy it again") from error
    return {"num_parameters": num_parameters, "dtypes": sorted(dtypes)} if dtypes else {}
