"""Where the weights come from that a run starts with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from crossrank.data.new_folder import new_folder
from crossrank.models.locating import find_folder
from crossrank.models.weights import has_weight_files
from crossrank.training.batches import Groups
from crossrank.training.config import ModelSection
from crossrank.training.tiny import TINY, build_tiny_model

# Writes a checkpoint that is there in the CPU form alone as a folder with weights, and returns the folder.
Restore = Callable[[str, Path], Path]


def find_base(section: ModelSection, folder: Path, *, groups: Groups, seed: int, restore: Restore | None) -> str:
    """Return a folder, or a name on the hub, whose weights can be trained.

    Args:
        section: The recipe's.
        folder: Where weights are written that are not there yet: a tiny model's, those of the shipped model, or those
            of two models that are joined.
        groups: What a tiny model takes its vocabulary from.
        seed: Of what is fresh in a joined model.
        restore: See `Restore`; None where that cannot be done.

    Raises:
        InputError: If there is no tiny model of that kind.
        UnsupportedModel: If two models cannot be joined.
        CheckpointError: If a model cannot be found.
    """
    is_there = (folder / "config.json").is_file()
    if section.vision_tower is not None:
        return str(folder if is_there else _join(section, section.vision_tower, folder, groups=groups, seed=seed))
    if section.name.startswith(TINY):
        if not is_there:
            with new_folder(folder) as fresh:
                build_tiny_model(section.name, fresh, groups)
        return str(folder)
    source = find_folder(section.name, section.revision)
    if has_weight_files(source) or restore is None or not any(source.glob("**/openvino_model.xml")):
        return section.name
    return str(folder if is_there else restore(section.name, folder))


def _join(section: ModelSection, vision_tower: str, folder: Path, *, groups: Groups, seed: int) -> Path:
    from crossrank.models.parts import join_parts

    def find(name: str, revision: str | None, beside: Path) -> Path:
        return build_tiny_model(name, beside, groups) if name.startswith(TINY) else find_folder(name, revision)

    with TemporaryDirectory(dir=folder.parent) as temporary:
        language = find(section.name, section.revision, Path(temporary, "language"))
        vision = find(vision_tower, None, Path(temporary, "vision"))
        return join_parts(folder, language=language, vision=vision, pooling=section.pooling or "avg", seed=seed)
