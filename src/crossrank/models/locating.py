"""Where a checkpoint lies: a folder, the one that ships in the package, or what the hub has under a name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from crossrank.errors import CheckpointError, InputError
from crossrank.models.bidirectional_layout import BACKBONES
from crossrank.models.hub import download
from crossrank.models.json_files import read_optional_object
from crossrank.models.language_model_families import LANGUAGE_MODEL_SUFFIXES
from crossrank.models.lora_base import ADAPTER_CONFIG, base_of_adapter

DEFAULT_MODEL = "crossrank-mini-en-v1"
_ASSETS = Path(__file__).parent.parent / "assets"


def find_folder(model: str | Path | None, revision: str | None) -> Path:
    """Return the folder of a checkpoint: itself, the shipped one, or what the hub has under that name.

    Raises:
        CheckpointError: If there is none.
        InputError: If a revision was given for a folder or for the shipped model, or the model is no name at all.
    """
    if model is None or model == DEFAULT_MODEL:
        if revision is not None:
            raise InputError(f"revision={revision!r} was given, but {DEFAULT_MODEL} ships in the package: leave it out")
        return _ASSETS / DEFAULT_MODEL
    if not isinstance(model, str | Path) or not str(model).strip():
        raise InputError(f"a model is a folder, a name on the hub, or None for the one that ships, not {model!r}")
    try:
        folder = Path(model).expanduser()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, the home of nobody
        raise CheckpointError(f"{str(model)[:80]}: no folder: {error}") from None
    if is_folder:
        if revision is not None:
            raise InputError(f"revision={revision!r} was given, but {model} is a folder on this machine: leave it out")
        return folder
    if folder.exists():
        raise CheckpointError(f"{model} is a file: give the folder that holds config.json")
    if isinstance(model, Path) or model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise CheckpointError(f"{model}: no such folder (a name on the hub has the form organisation/name)")
    return download(model, revision=revision)


def find_base(folder: Path, name: str) -> Path | None:
    """Return the folder below the LoRA adapter of a decoder, None where a folder holds none.

    Raises:
        CheckpointError: If the adapter names a base that cannot be found.
    """
    config = read_optional_object(folder / "config.json")
    is_language_model = any(str(name).endswith(LANGUAGE_MODEL_SUFFIXES) for name in config.get("architectures") or [])
    is_other = config and config.get("model_type") not in BACKBONES and not is_language_model
    base = None if is_other else base_of_adapter(folder)
    if base is None:
        return None
    try:
        return find_folder(*base)
    except CheckpointError as error:
        raise CheckpointError(
            f"{name}: the checkpoint below this LoRA adapter: {error}; correct base_model_name_or_path in "
            f"{ADAPTER_CONFIG}"
        ) from None


def checkpoint_files(folder: Path) -> Iterator[Path]:
    """Yield every file of a checkpoint; of a LoRA adapter those of the checkpoint below it, too.

    Raises:
        CheckpointError: If the adapter names a base that cannot be found.
    """
    yield from (path for path in folder.rglob("*") if path.is_file())
    base = base_of_adapter(folder)
    if base is not None:
        yield from checkpoint_files(find_folder(*base))
