"""Datasets in the schema that NeMo AutoModel reads from `hf://organisation/repository[/subset]`, or a local copy.

A subset has `SUBSET/dataset_metadata.json` (with a `corpus_id`), a configuration `SUBSET` with `question`, `pos_doc`
and maybe `neg_doc` and `question_id`, and a configuration `SUBSET_corpus` with `id` and `text`. Without a subset in
the address all subsets are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_id import group_of_ids
from crossrank.data.groups.corpus_index import CorpusIndex
from crossrank.data.groups.store_writer import StoreWriter
from crossrank.data.records import json_kind, record_id
from crossrank.data.text import display_name, reading
from crossrank.errors import DataError, InputError, MissingExtra
from crossrank.types import Document

SCHEME = "hf://"
METADATA_FILE = "dataset_metadata.json"


class Subsets(NamedTuple):
    """What an address means.

    Attributes:
        repository: The name on the hub, or a local folder.
        revision: The commit; None for a local folder.
        folder: Where the metadata of the subsets is on this machine.
        names: The subsets.
    """

    repository: str
    revision: str | None
    folder: Path
    names: tuple[str, ...]


def read_hub_groups(source: SourceConfig, writer: StoreWriter) -> None:
    """Write the groups of all wanted subsets.

    Raises:
        DataError: If the dataset cannot be loaded, or a subset is not of this schema.
        MissingExtra: If datasets is not installed.
    """
    split = source.split or "train"
    subsets = find_subsets(source.path)
    corpora = {name: _read_corpus(subsets, name, writer) for name in subsets.names}
    for corpus in corpora.values():
        corpus.finish()
    for subset, corpus in corpora.items():
        name = _place(subsets, subset, split)
        for line, row in enumerate(_load(subsets, subset, split), start=1):
            row.setdefault("question_id", f"{subset}:{line - 1}")
            try:
                writer.add_group(group_of_ids(row, corpus, name, line))
            except InputError as error:
                writer.problems.add_row(error, name, line)


def find_subsets(path: str) -> Subsets:
    """Return what an address, or the path of a local copy, means.

    Raises:
        DataError: If it is not an address, cannot be reached, or has no subset of this schema.
    """
    if path.startswith(SCHEME):
        parts = path.removeprefix(SCHEME).strip("/").split("/")
        if len(parts) not in (2, 3) or not all(parts):
            hint = "hf://organisation/repository, or hf://organisation/repository/subset"
            raise DataError(f"an address is {hint}", path=path)
        repository, subset = "/".join(parts[:2]), parts[2] if len(parts) == 3 else "*"
        folder = _download_metadata(repository, subset)
        revision: str | None = folder.name
    else:
        is_subset = (Path(path) / METADATA_FILE).is_file()
        folder, subset = (Path(path).parent, Path(path).name) if is_subset else (Path(path), "*")
        repository, revision = str(folder), None
    names = tuple(sorted(file.parent.name for file in folder.glob(f"{subset}/{METADATA_FILE}")))
    if not names:
        raise DataError(f"no subset with a {METADATA_FILE}", path=path)
    return Subsets(repository, revision, folder, names)


def _download_metadata(repository: str, subset: str) -> Path:
    """Return the local copy of a commit of a repository, with the metadata of its subsets alone."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(
            snapshot_download(
                repository, repo_type="dataset", allow_patterns=[f"{subset}/{METADATA_FILE}", "README.md"]
            )
        )
    except (HFValidationError, OSError) as error:
        problem = f"is no dataset on the hub that this login may read, or cannot be reached: {_first_line(error)}"
        raise DataError(problem, path=SCHEME + repository) from error


def _read_corpus(subsets: Subsets, subset: str, writer: StoreWriter) -> CorpusIndex:
    _check_metadata(subsets.folder / subset / METADATA_FILE)
    configuration = f"{subset}_corpus"
    name = _place(subsets, configuration, "train")
    corpus = CorpusIndex(writer, name)
    for line, row in enumerate(_load(subsets, configuration, "train"), start=1):
        try:
            text = row.get("text")
            if not isinstance(text, str):
                raise InputError(f"'text' must be a string, not {json_kind(text)}")
            corpus.add(Document(text, title=row.get("title") or None, id=record_id(row)), line)
        except InputError as error:
            writer.problems.add_row(error, name, line)
    return corpus


def _check_metadata(file: Path) -> None:
    with reading(display_name(file)):
        text = file.read_bytes()
    try:
        metadata = json.loads(text)
    except ValueError as error:
        raise DataError(f"malformed JSON: {error}", path=file) from error
    if not isinstance(metadata, dict) or "corpus_id" not in metadata:
        raise DataError("no 'corpus_id'", path=file)
    if metadata.get("ids_only"):
        advice = "restore the texts, and use the corpus-ID format"
        raise DataError(f"this subset holds ids without texts (ids_only): {advice}", path=file)


def _load(subsets: Subsets, configuration: str, split: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a configuration, a batch in memory at a time."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("reading datasets of the hub", extra="train") from error
    try:
        dataset = datasets.load_dataset(subsets.repository, configuration, split=split, revision=subsets.revision)
    except (ValueError, OSError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"cannot be loaded: {_first_line(error)}", path=_place(subsets, configuration, split)
        ) from error
    for batch in dataset.with_format("arrow").iter(1000):
        yield from batch.to_pylist()


def _place(subsets: Subsets, configuration: str, split: str) -> str:
    return f"{subsets.repository} ({configuration}, {split})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
