"""Low-rank adapters with peft, and the scoring head trained and saved beside them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from torch import nn

from crossrank.errors import InputError
from crossrank.training.config import LoraSection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from transformers import PreTrainedModel


# What peft saves whole of every sequence classifier.
_PEFT_HEADS = ("classifier", "score")


def add_adapter(
    model: PreTrainedModel, section: LoraSection, *, fresh: Sequence[str], base: str, revision: str | None
) -> PeftModel:
    """Freeze a classifier and put trainable low-rank updates on its linear layers.

    The scoring head, and whatever else started from random weights, is trained whole and saved with the adapter.

    Args:
        model: The classifier.
        section: Rank, scale and targets.
        fresh: Names of the weights that started at random.
        base: Where the frozen weights come from: a folder, or a name on the hub.
        revision: On the hub.

    Raises:
        InputError: If the targets match no linear layer of the body.
    """
    from peft import LoraConfig, TaskType, get_peft_model

    modules = {*_head_modules(model), *(name.rpartition(".")[0] for name in fresh)}
    whole = sorted(name for name in modules if not any(name.startswith(f"{other}.") for other in modules))
    inside = re.compile("|".join(rf"(.*\.)?{re.escape(name)}(\..*)?" for name in whole))
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not inside.fullmatch(name) and _is_target(name, section.targets)
    ]
    if not layers:
        linears = (name for name, module in model.named_modules() if isinstance(module, nn.Linear))
        known = sorted({name.rpartition(".")[2] for name in linears if not inside.fullmatch(name)})
        raise InputError(f"lora.targets {section.targets} match no linear layer; there are {', '.join(known)}")
    everything = section.targets == "all-linear"
    targets = sorted({name.rpartition(".")[2] for name in layers}) if everything else list(section.targets)
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS,
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=targets,
        exclude_modules=inside.pattern,
        modules_to_save=[name for name in whole if name not in _PEFT_HEADS],
        revision=revision,
    )
    adapted: PeftModel = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def _head_modules(model: PreTrainedModel) -> list[str]:
    """Return the modules beside the body that have weights."""
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    return targets == "all-linear" or any(name == target or name.endswith(f".{target}") for target in targets)
