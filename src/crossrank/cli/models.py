"""`crossrank models`: which kinds of checkpoints can be scored, and which rerankers are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from crossrank.cli.options import JsonOption
from crossrank.cli.terminal import format_size, print_json, print_table
from crossrank.errors import RerankError

if TYPE_CHECKING:
    from crossrank.models.checkpoint import Checkpoint

# What each package is for, and the extra that brings it.
_PACKAGES = {
    "openvino": ("scores the shipped model and exported ones on a CPU", None),
    "torch": ("scores every other checkpoint", "torch"),
    "transformers": ("scores every other checkpoint", "torch"),
    "pyarrow": ("reads Parquet files", "parquet"),
}
# How a checkpoint is recognised whose config.json does not say it by its model_type.
_FOUND_BY = {"modular": "modules.json", "logit_score": "modules.json", "native": "architectures"}
_WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class LocalModel:
    """A reranker on this machine.

    Attributes:
        name: What `--model` takes.
        family: Its family.
        max_length: Most tokens of a pair.
        size_bytes: Of its files.
        loadable: Whether the packages that it needs are installed.
    """

    name: str
    family: str
    max_length: int
    size_bytes: int
    loadable: bool


def models(as_json: JsonOption = False) -> None:
    """List the families of checkpoints that can be scored, and the rerankers on this machine."""
    from crossrank.models.families import FAMILIES

    installed = {name: find_spec(name) is not None for name in _PACKAGES}
    found = find_local_models(installed)
    if as_json:
        keys = ("name", "model_types", "architectures", "description", "scoring", "licence", "non_commercial")
        families = [{key: getattr(family, key) for key in keys} for family in FAMILIES]
        print_json({"families": families, "packages": installed, "models": [asdict(model) for model in found]})
        return
    print_table(
        "Families",
        ("family", "found by", "what", "licence"),
        [
            (
                family.name,
                ", ".join(family.model_types) or _FOUND_BY.get(family.name, "hub name, --family"),
                family.description,
                describe_licence(family.licence, non_commercial=family.non_commercial) or "its own",
            )
            for family in FAMILIES
        ],
    )
    print_table(
        "Packages",
        ("package", "installed", "what it does here"),
        [(name, _presence(installed[name], extra), purpose) for name, (purpose, extra) in _PACKAGES.items()],
    )
    print_table(
        "Rerankers on this machine: shipped, or in the cache of the Hugging Face Hub",
        ("model", "family", "max_length", "size", "loadable"),
        [
            (m.name, m.family, str(m.max_length), format_size(m.size_bytes), "yes" if m.loadable else "no")
            for m in found
        ],
    )


def find_local_models(installed: Mapping[str, bool]) -> list[LocalModel]:
    """Return the shipped model and the rerankers in the hub's cache that have weights; other models are passed over."""
    from crossrank.models.checkpoint import DEFAULT_MODEL, open_checkpoint

    found = []
    for name, folder in [(DEFAULT_MODEL, None), *_cached_folders()]:
        try:
            checkpoint = open_checkpoint(folder, label=0, hub_name=name)
        except RerankError:
            continue  # another kind of model, or only some of its files
        files = list_files(checkpoint.folder)
        if not any(file.endswith(_WEIGHTS) for file in files):
            continue
        size, runs = sum(files.values()), _is_loadable(checkpoint, installed)
        found.append(LocalModel(name, checkpoint.family.name, checkpoint.max_length, size, runs))
    return found


def _is_loadable(checkpoint: Checkpoint, installed: Mapping[str, bool]) -> bool:
    from crossrank.inference.selection import choose_engine

    if choose_engine(checkpoint).backend == "torch":
        return installed["torch"] and installed["transformers"]
    if checkpoint.openvino_file:
        return installed["openvino"]
    from crossrank.inference.openvino_graph import supports_graph

    return supports_graph(checkpoint.config)


def describe_licence(licence: str | None, *, non_commercial: bool) -> str | None:
    """Return a licence for people; None where it is not known."""
    return f"{licence} (non-commercial)" if non_commercial else licence


def list_files(folder: Path) -> dict[str, int]:
    """Return the size in bytes of every file below a folder, by its path there."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}


def _cached_folders() -> list[tuple[str, Path]]:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        cache = scan_cache_dir()
    except CacheNotFound:
        return []
    newest = {
        repo.repo_id: max(repo.revisions, key=lambda revision: revision.last_modified).snapshot_path
        for repo in cache.repos
        if repo.repo_type == "model" and repo.revisions
    }
    return sorted(newest.items())


def _presence(installed: bool, extra: str | None) -> str:
    return "yes" if installed else f"no: pip install 'crossrank[{extra}]'" if extra else "no"
