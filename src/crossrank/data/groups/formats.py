"""Which reader a source gets, and which files its groups depend on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from crossrank.data.groups.beir_groups import FirstStage, beir_files, read_beir_groups
from crossrank.data.groups.config import SourceConfig
from crossrank.data.groups.corpus_id import METADATA_FILE as CORPUS_METADATA_FILE
from crossrank.data.groups.corpus_id import corpus_files, corpus_folders, read_corpus_id_groups
from crossrank.data.groups.hub import METADATA_FILE, SCHEME, find_subsets, read_hub_groups
from crossrank.data.groups.inline import read_inline_groups
from crossrank.data.groups.pages import find_pages, has_page_columns, page_files, read_pages
from crossrank.data.groups.pairs import has_pair_columns, read_pairs
from crossrank.data.groups.store_writer import StoreWriter
from crossrank.data.groups.triples import read_triples
from crossrank.data.json_stream import stream_json
from crossrank.data.records import parquet_records, parse_object
from crossrank.data.text import display_name, read_lines, reading
from crossrank.errors import DataError, InputError

_READERS: dict[str, Callable[[SourceConfig, StoreWriter], None]] = {
    "groups": read_inline_groups,
    "corpus-id": read_corpus_id_groups,
    "hub": read_hub_groups,
    "triples": read_triples,
    "pairs": read_pairs,
    "pages": read_pages,
}


def resolve_format(source: SourceConfig) -> str:
    """Return the format of a source: what it says, or what its path and its first row look like.

    Raises:
        DataError: If there is no such file, or it looks like none of the formats.
    """
    if source.format != "auto":
        return source.format
    if source.path.startswith(SCHEME):
        return "hub"
    path = Path(source.path)
    name = display_name(path)
    if path.is_dir():
        return _format_of_folder(path)
    if not path.is_file():
        raise DataError("no such file or folder", path=name)
    stem = path.name.lower().removesuffix(".gz")
    if stem.endswith(".json"):
        return "corpus-id" if any(item.key == "corpus" for item in stream_json(path)) else "groups"
    if stem.endswith(".tsv") and not has_pair_columns(_first_line(path).split("\t")):
        return "triples"
    if stem.endswith((".tsv", ".csv")):
        return "pairs"
    if stem.endswith(".parquet"):
        return _format_of_columns(_parquet_columns(path))
    if stem.endswith((".jsonl", ".ndjson")):
        return _format_of_columns(_first_keys(path))
    formats = ", ".join(("hub", "beir", *_READERS))
    raise DataError(f"unknown kind of file: name its format ({formats})", path=name)


def _format_of_columns(columns: list[str]) -> str:
    if has_page_columns(columns):
        return "pages"
    return "pairs" if has_pair_columns(columns) else "groups"


def _format_of_folder(path: Path) -> str:
    if (path / "qrels").is_dir() and not (path / "corpus").is_dir():
        return "beir"
    if (path / METADATA_FILE).is_file() or any(path.glob(f"*/{METADATA_FILE}")):
        return "hub"
    parquet = next(path.rglob("*.parquet"), None)
    if parquet and ((path / "corpus").is_dir() or has_page_columns(_parquet_columns(parquet))):
        return "pages"
    message = f"neither a BEIR folder (qrels/) nor tables of pages nor a copy of a hub dataset (SUBSET/{METADATA_FILE})"
    raise DataError(message, path=display_name(path))


def _first_line(path: Path) -> str:
    return next((line.text.strip() for line in read_lines(path) if line.text.strip()), "")


def _first_keys(path: Path) -> list[str]:
    try:
        return list(parse_object(_first_line(path)))
    except InputError:
        return []  # the reader says what is wrong, and where


def _parquet_columns(path: Path) -> list[str]:
    found: list[str] = []
    next(parquet_records(path, check=lambda columns, line: found.extend(columns)), None)
    return found


def read_source(
    source: SourceConfig, format: str, writer: StoreWriter, first_stage: Callable[[], FirstStage] | None
) -> None:
    """Write the groups of a source.

    Raises:
        DataError: If it cannot be read.
    """
    if format == "beir":
        read_beir_groups(source, writer, first_stage)
    else:
        _READERS[format](source, writer)


def describe_inputs(source: SourceConfig, format: str) -> list[str]:
    """Return what the content of a source depends on: its files with their sizes and times, or its version.

    Raises:
        DataError: If a file is missing.
    """
    if source.path.startswith(SCHEME):
        # The commit.
        folder = find_subsets(source.path).folder if format == "hub" else find_pages(source.path)
        return [folder.name]
    with reading(display_name(source.path)):
        return [f"{file.resolve()} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in _files(source, format)]


def _files(source: SourceConfig, format: str) -> list[Path]:
    path = Path(source.path)
    if format == "beir":
        return list(beir_files(source).values())
    if format == "hub":
        return sorted(file for file in find_subsets(source.path).folder.rglob("*") if file.is_file())
    if format == "triples":
        return [path, *(Path(file) for file in (source.queries, source.collection) if file)]
    if format == "pages":
        return page_files(path)
    if format == "corpus-id":
        folders = corpus_folders(path)
        return [path, *(f for folder in folders for f in (folder / CORPUS_METADATA_FILE, *corpus_files(folder)))]
    return [path]
