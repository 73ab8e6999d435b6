"""Datasets in the schema that NeMo AutoModel reads from `hf://organisation/repository[/subset]`, or a local copy.

A subset has `SUBSET/dataset_metadata.json` (with a `corpus_id`), a configuration `SUBSET` with `question`, `pos_doc`
and maybe `neg_doc` and `question_id`, and a configuration `SUBSET_corpus` with `id` and `text`. Without a subset in
the address all subsets are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_id import group_of_ids
from crossrank.data.groups.corpus_index import CorpusIndex
from crossrank.data.groups.store import StoreWriter
from crossrank.data.records import json_kind, record_id
from crossrank.errors import DataError, InputError, MissingExtra
from crossrank.types import Document

SCHEME = "hf://"
METADATA_FILE = "dataset_metadata.json"


def read_hub_groups(source: SourceConfig, writer: StoreWriter) -> None:
    """Write the groups of all wanted subsets.

    Raises:
        DataError: If the dataset cannot be loaded, or a subset is not of this schema.
        MissingExtra: If datasets is not installed.
    """
    split = source.split or "train"
    place, subsets = find_subsets(source.path)
    corpora = {subset: _read_corpus(place, subset, writer) for subset in subsets}
    for corpus in corpora.values():
        corpus.finish()
    for subset, corpus in corpora.items():
        name = f"{source.path} ({subset}, {split})" if len(subsets) > 1 else f"{source.path} ({split})"
        for line, row in enumerate(_load(place, subset, split), start=1):
            row.setdefault("question_id", f"{subset}:{line - 1}")
            try:
                writer.add_group(group_of_ids(row, corpus, name, line))
            except InputError as error:
                writer.problems.add_row(error, name, line)


def find_subsets(path: str) -> tuple[str, list[str]]:
    """Return the repository (or the local folder) of an address, and the subsets that it means.

    Raises:
        DataError: If it is not an address, cannot be reached, or has no subset of this schema.
    """
    place, subset = _parse(path)
    if subset is not None:
        return place, [subset]
    if Path(place).is_dir():
        names = [str(file.relative_to(place)) for file in Path(place).glob(f"*/{METADATA_FILE}")]
    else:
        names = _hub_files(place)
    subsets = sorted(name.split("/")[0] for name in names if name.endswith(f"/{METADATA_FILE}"))
    if not subsets:
        raise DataError(f"no subset with a {METADATA_FILE}", path=path)
    return place, subsets


def hub_version(path: str) -> str:
    """Return the commit that the default branch of an address is at, or of the newest copy in the hub's cache.

    Raises:
        DataError: If neither can be found.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    repository, _ = _parse(path)
    try:
        return str(HfApi().dataset_info(repository).sha)
    except (HfHubHTTPError, OSError):
        pass
    try:
        folder = snapshot_download(repository, repo_type="dataset", local_files_only=True, allow_patterns=["README.md"])
    except OSError as error:
        raise DataError(f"cannot be reached, and is not in the cache: {_first_line(error)}", path=path) from error
    return Path(folder).name


def _parse(path: str) -> tuple[str, str | None]:
    if not path.startswith(SCHEME):
        folder = Path(path)
        is_subset = (folder / METADATA_FILE).is_file()
        return (str(folder.parent), folder.name) if is_subset else (path, None)
    parts = path.removeprefix(SCHEME).strip("/").split("/")
    if len(parts) not in (2, 3) or not all(parts):
        raise DataError("an address is hf://organisation/repository, or hf://organisation/repository/subset", path=path)
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None


def _hub_files(repository: str) -> list[str]:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return list(HfApi().list_repo_files(repository, repo_type="dataset"))
    except (HfHubHTTPError, OSError) as error:
        raise DataError(f"cannot be listed: {_first_line(error)}", path=SCHEME + repository) from error


def _read_corpus(place: str, subset: str, writer: StoreWriter) -> CorpusIndex:
    name = f"{place}/{subset}_corpus"
    _check_metadata(place, subset)
    corpus = CorpusIndex(writer, name)
    for line, row in enumerate(_load(place, f"{subset}_corpus", "train"), start=1):
        try:
            text = row.get("text")
            if not isinstance(text, str):
                raise InputError(f"'text' must be a string, not {json_kind(text)}")
            corpus.add(Document(text, title=row.get("title") or None, id=record_id(row)), line)
        except InputError as error:
            writer.problems.add_row(error, name, line)
    return corpus


def _check_metadata(place: str, subset: str) -> None:
    name = f"{subset}/{METADATA_FILE}"
    try:
        if Path(place).is_dir():
            text = (Path(place) / name).read_text(encoding="utf-8")
        else:
            from huggingface_hub import hf_hub_download

            text = Path(hf_hub_download(place, name, repo_type="dataset")).read_text(encoding="utf-8")
        metadata = json.loads(text)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read: {_first_line(error)}", path=f"{place}/{name}") from error
    if not isinstance(metadata, dict) or "corpus_id" not in metadata:
        raise DataError("no 'corpus_id'", path=f"{place}/{name}")
    if metadata.get("ids_only"):
        raise DataError(
            "this subset holds ids without texts (ids_only); restore the texts and use the corpus-ID format",
            path=f"{place}/{name}",
        )


def _load(place: str, configuration: str, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a configuration, a batch in memory at a time."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("reading datasets of the hub", extra="train") from error
    try:
        dataset = datasets.load_dataset(place, configuration, split=split)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot be loaded: {_first_line(error)}", path=f"{place} ({configuration}, {split})"
        ) from error
    for batch in dataset.with_format("arrow").iter(1000):
        yield from batch.to_pylist()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
