"""Weight files of a checkpoint folder: what is refused, what is checked, and how transformers reads the rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.json_files import read_json_object
from crossrank.models.quiet import quiet_transformers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# Heads of pre-training and buffers that older versions saved: a scorer has no use for them.
_HARMLESS_UNUSED = re.compile(
    r"(^|\.)position_ids$|^cls\.|^lm_head\.|(^|\.)pooler\.|^lm_predictions\.|^mask_predictions\.|^decoder\."
    r"|^discriminator_predictions\.|^generator_|^vocab_(transform|layer_norm|projector)\."
)
_SHOWN_KEYS = 4
# How transformers is let near a folder, and how it is made to say what does not fit instead of deciding it.
_FROM_FOLDER: Mapping[str, Any] = {"use_safetensors": True, "local_files_only": True, "trust_remote_code": False}
_REPORTED: Mapping[str, Any] = {"ignore_mismatched_sizes": True, "output_loading_info": True}
_SINGLE_FILE, _INDEX_FILE = "model.safetensors", "model.safetensors.index.json"


def has_weight_files(folder: Path) -> bool:
    """Return whether a folder holds safetensors weights, in one file or in shards."""
    return (folder / _SINGLE_FILE).is_file() or (folder / _INDEX_FILE).is_file()


def find_weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a folder, each checked to be whole.

    Raises:
        CheckpointError: If there are none, if there is only a pickle, or if a file is missing or damaged.
    """
    single, index = folder / _SINGLE_FILE, folder / _INDEX_FILE
    if single.is_file():
        files: tuple[Path, ...] = (single,)
    elif index.is_file():
        files = _shards(index)
    elif any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise CheckpointError(
            f"{folder}: the weights are a pickle (*.bin), which can run code when it is read, so crossrank refuses it; "
            "if you trust the file, convert it once: "
            "transformers.AutoModelForSequenceClassification.from_pretrained(FOLDER).save_pretrained(FOLDER), for a "
            "language model with AutoModelForCausalLM or AutoModelForSeq2SeqLM"
        )
    elif (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder}: an adapter without the model that it belongs to; merge them first: crossrank export --merge"
        )
    else:
        raise CheckpointError(f"{folder}: no weights: model.safetensors is missing; download or copy it again")
    for file in files:
        check_safetensors(file)
    return files


def weight_names(files: Collection[Path]) -> set[str]:
    """Return the names of the tensors in safetensors files, off their headers."""
    from safetensors import safe_open

    names: set[str] = set()
    for path in files:
        with safe_open(path, framework="np") as file:
            names.update(file.keys())
    return names


def check_safetensors(file: Path) -> None:
    """Check that a safetensors file is there and as long as its header says.

    Raises:
        CheckpointError: If it is missing, cut short or not a safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise CheckpointError(f"{file}: missing; download or copy the checkpoint again")
    try:
        with safe_open(file, framework="np"):
            pass
    except SafetensorError as error:
        raise CheckpointError(f"{file}: damaged or cut short ({error}); download or copy it again") from None


def load_pretrained(
    auto_class: Any, folder: Path, *, dtype: torch.dtype | str, where: str, optional: str = "", config: Any = None
) -> PreTrainedModel:
    """Load a native transformers model in evaluation mode, and make sure that the file fills every weight of it.

    Args:
        auto_class: `AutoModelForSequenceClassification` or `AutoModel`.
        folder: Holds `config.json` and the weights.
        dtype: Of the weights in memory; `"auto"` keeps the file's.
        where: The checkpoint, for errors.
        optional: Start of the names of weights that may be missing, because nothing reads them.
        config: Instead of the folder's own.

    Raises:
        CheckpointError: If weights are missing (the head included), superfluous, of a wrong shape, or damaged.
        UnsupportedModel: If transformers has no native class for the configuration.
    """
    find_weight_files(folder)
    config = load_config(folder, where) if config is None else config
    with quiet_transformers(), _transformers_errors(where):
        model, report = auto_class.from_pretrained(folder, config=config, dtype=dtype, **_FROM_FOLDER, **_REPORTED)
    _check_report(model, report, where, optional)
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_from_tensors(
    model_class: Any, config: Any, tensors: Mapping[str, torch.Tensor], *, dtype: torch.dtype, where: str
) -> PreTrainedModel:
    """Make a native transformers model of weights that were read and renamed elsewhere, in evaluation mode.

    Unlike `fill_model` it never makes random weights first, which takes long for a large model.

    Args:
        model_class: Of transformers.
        config: Its configuration.
        tensors: The weights by their names in transformers.
        dtype: Of the weights in memory.
        where: The checkpoint, for errors.

    Raises:
        CheckpointError: If weights are missing, superfluous or of a wrong shape.
    """
    with quiet_transformers(), _transformers_errors(where):
        model, report = model_class.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            dtype=dtype,
            **_REPORTED,
        )
    _check_report(model, report, where, "")
    loaded: PreTrainedModel = model.eval()
    return loaded


def load_with_fresh_head(
    folder: Path, *, dtype: torch.dtype | str, where: str, config: Any = None
) -> tuple[PreTrainedModel, list[str]]:
    """Load the body of a model under a scoring head of one label; what the file lacks of the head starts at random.

    Args:
        folder: Holds `config.json` and the weights of any model with this body.
        dtype: Of the weights in memory; `"auto"` keeps the file's.
        where: The checkpoint, for errors.
        config: Instead of the folder's own with one label.

    Returns:
        The model, in evaluation mode, and the names of the weights that started at random.

    Raises:
        CheckpointError: If weights of the body are missing or damaged.
        UnsupportedModel: If transformers has no sequence classifier with this body.
    """
    from transformers import AutoModelForSequenceClassification

    find_weight_files(folder)
    if config is None:
        config = load_config(folder, where)
        config.id2label, config.label2id = {0: "LABEL_0"}, {"LABEL_0": 0}
    with quiet_transformers():
        try:
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder, config=config, dtype=dtype, **_FROM_FOLDER, **_REPORTED
            )
        except ValueError as error:
            raise UnsupportedModel(f"{where}: no scoring head fits a {config.model_type} model ({error})") from None
    fresh = sorted({*report["missing_keys"], *(entry[0] for entry in report["mismatched_keys"])})
    body = [key for key in fresh if not _is_head(key, model)]
    if body:
        raise CheckpointError(f"{where}: weights of the body are missing ({len(body)}): {_listed(body)}")
    model.config.architectures = [type(model).__name__]
    loaded: PreTrainedModel = model.eval()
    return loaded, fresh


def fill_model(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], *, where: str) -> PreTrainedModel:
    """Put weights that were read from elsewhere into a freshly built model, and make sure that they fill it.

    Raises:
        CheckpointError: If weights are missing, superfluous or of a wrong shape.
    """
    own = model.state_dict()
    wrong = [key for key, value in tensors.items() if key in own and own[key].shape != value.shape]
    report = {"mismatched_keys": [(key,) for key in wrong]}
    result = model.load_state_dict({k: v for k, v in tensors.items() if k not in wrong}, strict=False)
    missing = set(result.missing_keys) - set(wrong)
    _check_report(model, report | {"missing_keys": missing, "unexpected_keys": result.unexpected_keys}, where, "")
    return model.eval()


def load_config(folder: Path, where: str, *, renamed: Mapping[str, str] | None = None) -> Any:
    """Read `config.json` as the native transformers class.

    Args:
        folder: Holds `config.json`.
        where: The checkpoint, for errors.
        renamed: Values of `model_type` that transformers does not know, and the native one whose fields they have.

    Raises:
        UnsupportedModel: If transformers has no native class for it.
        CheckpointError: If a value in it is not valid.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import CONFIG_MAPPING, AutoConfig

    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{where}: no config.json in {folder}: is it the folder of a checkpoint?")
    values = read_json_object(folder / "config.json")
    stated = values.get("model_type")
    model_type = (renamed or {}).get(str(stated), stated)
    if model_type not in CONFIG_MAPPING:
        raise UnsupportedModel(f"{where}: the installed transformers has no model_type {model_type!r}: update it")
    try:
        if model_type != stated:
            own = {key: value for key, value in values.items() if key not in ("model_type", "auto_map")}
            config = CONFIG_MAPPING[model_type].from_dict(own)
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (StrictDataclassError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{folder / 'config.json'}: {' '.join(str(error).split())}") from error
    config._attn_implementation = None  # of the machine that saved it: this one may have other kernels
    return config


def _shards(index: Path) -> tuple[Path, ...]:
    places = read_json_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise CheckpointError(f"{index}: weight_map must name the file of every weight")
    names = sorted(set(places.values()))
    if any(Path(name).name != name for name in names):
        raise CheckpointError(f"{index}: a shard lies outside the checkpoint folder")
    return tuple(index.parent / name for name in names)


def _check_report(model: PreTrainedModel, report: Mapping[str, Any], where: str, optional: str) -> None:
    missing = sorted(key for key in report["missing_keys"] if not (optional and key.startswith(optional)))
    unused = sorted(key for key in report["unexpected_keys"] if not _HARMLESS_UNUSED.search(key))
    wrong = sorted(entry[0] for entry in report["mismatched_keys"])
    if missing and all(_is_head(key, model) for key in missing):
        raise CheckpointError(
            f"{where}: the weights of the scoring head are missing ({_listed(missing)}), so every score would be "
            "random; give a checkpoint that was trained for sequence classification"
        )
    for keys, problem in ((missing, "are missing"), (wrong, "have another shape than config.json says")):
        if keys:
            raise CheckpointError(f"{where}: weights {problem} ({len(keys)}): {_listed(keys)}; is config.json its own?")
    if unused:
        raise CheckpointError(
            f"{where}: the file holds weights that the model of config.json has no place for ({len(unused)}): "
            f"{_listed(unused)}; is config.json its own?"
        )


def _is_head(key: str, model: PreTrainedModel) -> bool:
    return not key.startswith(f"{model.base_model_prefix}.") or ".pooler." in key


def _listed(keys: Collection[str]) -> str:
    shown = ", ".join(list(keys)[:_SHOWN_KEYS])
    return shown if len(keys) <= _SHOWN_KEYS else f"{shown}, ..."


@contextmanager
def _transformers_errors(where: str) -> Iterator[None]:
    """Name the checkpoint in what transformers raises on values of `config.json` that it only looks up while it builds.

    Raises:
        CheckpointError: In the place of it.
    """
    try:
        yield
    except (KeyError, ValueError, TypeError, ImportError, ZeroDivisionError, AssertionError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(f"{where}: transformers cannot build the model of config.json: {what}") from error
