"""Where the weights come from that a run starts with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crossrank.models.checkpoint import find_folder
from crossrank.models.weights import has_weight_files
from crossrank.training.batches import Groups
from crossrank.training.config import ModelSection
from crossrank.training.tiny import TINY, build_tiny_model

# Writes a checkpoint that is there in the CPU form alone as a folder with weights, and returns the folder.
Restore = Callable[[str, Path], Path]


def find_base(section: ModelSection, folder: Path, *, groups: Groups, restore: Restore | None) -> str:
    """Return a folder, or a name on the hub, whose weights can be trained.

    Args:
        section: The recipe's.
        folder: Where weights are written that are not there yet: a tiny model's, or those of the shipped model.
        groups: What a tiny model takes its vocabulary from.
        restore: See `Restore`; None where that cannot be done.

    Raises:
        InputError: If there is no tiny model of that kind.
        CheckpointError: If the model cannot be found.
    """
    if section.name.startswith(TINY):
        return str(folder if (folder / "config.json").is_file() else build_tiny_model(section.name, folder, groups))
    source = find_folder(section.name, section.revision)
    if has_weight_files(source) or restore is None or not any(source.glob("**/openvino_model.xml")):
        return section.name
    return str(folder if (folder / "config.json").is_file() else restore(section.name, folder))
