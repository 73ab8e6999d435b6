"""LoRA adapters in the layout of peft: the checkpoint they belong to, and the weights of both together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import CheckpointError, MissingExtra, UnsupportedModel
from crossrank.models.json_files import read_json_object
from crossrank.models.quiet import quiet_transformers
from crossrank.models.weights import check_safetensors, weight_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ADAPTER_CONFIG, _ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# How peft names the weights of the model that it wraps.
_PREFIX = "base_model.model."


def base_of_adapter(folder: Path) -> tuple[str, str | None] | None:
    """Return the name and the revision of the checkpoint that an adapter belongs to, None if a folder holds none.

    A relative path is looked for beside the adapter too.

    Raises:
        CheckpointError: If the adapter does not name a checkpoint.
        UnsupportedModel: If it is not LoRA.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        return None
    stated = read_json_object(path)
    if stated.get("peft_type") != "LORA":
        raise UnsupportedModel(f"{path}: peft_type {stated.get('peft_type')!r} is not supported, only LORA")
    name, revision = stated.get("base_model_name_or_path"), stated.get("revision")
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{path}: base_model_name_or_path must name the checkpoint below the adapter")
    beside = folder / name
    if not Path(name).expanduser().is_dir() and beside.is_dir():
        return str(beside), None
    return name, None if Path(name).expanduser().is_dir() else revision


def adapter_has(folder: Path, module: str) -> bool:
    """Return whether an adapter brings the whole weight of a module, such as the head."""
    check_safetensors(folder / _ADAPTER_WEIGHTS)
    return f"{_PREFIX}{module}.weight" in weight_names((folder / _ADAPTER_WEIGHTS,))


def merge_adapter(model: PreTrainedModel, folder: Path, where: str) -> PreTrainedModel:
    """Add the adapter in a folder to the weights of a model, and return the model, without a trace of peft.

    Raises:
        CheckpointError: If the adapter has weights that the model has no place for, or lacks some of its own.
        MissingExtra: If peft is not installed.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError:
        raise MissingExtra(f"{where}: reading a LoRA adapter", extra="lora") from None
    device = str(next(model.parameters()).device)
    with quiet_transformers():  # it takes the model_type of a bidirectional base for a mistake
        adapted: Any = PeftModel.from_pretrained(model, str(folder), torch_device=device, local_files_only=True)
        expected = set(get_peft_model_state_dict(adapted))
    given = weight_names((folder / _ADAPTER_WEIGHTS,))
    if expected != given:
        odd = ", ".join(sorted(expected ^ given)[:3])
        raise CheckpointError(f"{where}: the adapter does not fit the model below it ({odd}, ...): is it another's?")
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged.eval()


def merge_renamed_adapter(
    model: PreTrainedModel, folder: Path, where: str, *, rename: Callable[[str], str]
) -> PreTrainedModel:
    """Merge an adapter that was saved when the modules of its model had other names; otherwise as `merge_adapter`.

    Args:
        model: The model, changed in place.
        folder: Of the adapter.
        where: The checkpoint, for errors.
        rename: From a name in the file to the name that peft gives the weight now.

    Raises:
        CheckpointError: If the adapter has weights that the model has no place for, or lacks some of its own.
        MissingExtra: If peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    except ImportError:
        raise MissingExtra(f"{where}: reading a LoRA adapter", extra="lora") from None
    from safetensors.torch import load_file

    check_safetensors(folder / _ADAPTER_WEIGHTS)
    tensors = {rename(name): tensor for name, tensor in load_file(folder / _ADAPTER_WEIGHTS).items()}
    adapted: Any = get_peft_model(model, LoraConfig.from_pretrained(str(folder)))
    expected = set(get_peft_model_state_dict(adapted))
    if expected != set(tensors):
        odd = ", ".join(sorted(expected ^ set(tensors))[:3])
        raise CheckpointError(f"{where}: the adapter does not fit the model below it ({odd}, ...): is it another's?")
    set_peft_model_state_dict(adapted, tensors)
    merged: PreTrainedModel = adapted.merge_and_unload()
    return merged.eval()
