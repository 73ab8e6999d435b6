"""Low-rank adapters with peft, and the scoring head trained and saved beside them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from torch import nn

from crossrank.errors import InputError
from crossrank.training.config import LoraSection
from crossrank.training.visual import HEAD, PROJECTOR, TOWER, TrainableVLReranker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from peft import PeftModel
    from transformers import PreTrainedModel


# What peft saves whole of every sequence classifier.
_PEFT_HEADS = ("classifier", "score")


def add_adapter(
    model: PreTrainedModel | TrainableVLReranker,
    section: LoraSection,
    *,
    fresh: Sequence[str],
    base: str,
    revision: str | None,
) -> PeftModel:
    """Freeze a classifier and put trainable low-rank updates on its linear layers.

    Of one that reads images, those of the language model alone: vision tower and projector stay as they are. The
    scoring head, and whatever else started from random weights, is trained whole and saved with the adapter.

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

    modules = {*head_names(model), *(name.rpartition(".")[0] for name in fresh)}
    whole = sorted(name for name in modules if not any(name.startswith(f"{other}.") for other in modules))
    is_visual = isinstance(model, TrainableVLReranker)
    left_alone = (TOWER, PROJECTOR) if is_visual else ()
    inside = re.compile("|".join(rf"(.*\.)?{re.escape(name)}(\..*)?" for name in (*whole, *left_alone)))
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
        # The wrapper for sequence classifiers hands on arguments that only those of transformers take.
        task_type=None if is_visual else TaskType.SEQ_CLS,
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules=targets,
        exclude_modules=inside.pattern,
        modules_to_save=[name for name in whole if is_visual or name not in _PEFT_HEADS],
        revision=revision,
    )
    adapted: PeftModel = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def head_names(model: Any) -> list[str]:
    """Return the modules of the scoring head: those beside the body that have weights."""
    if isinstance(model, TrainableVLReranker):
        return [HEAD]
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def _is_target(name: str, targets: str | Sequence[str]) -> bool:
    return targets == "all-linear" or any(name == target or name.endswith(f".{target}") for target in targets)
