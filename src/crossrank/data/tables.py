"""The tables of a data set as they lie on the hub: named configs, each with splits, each in Parquet or text files."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crossrank.data.hub import dataset_folder
from crossrank.data.records import csv_records, read_json_objects
from crossrank.data.text import display_name, read_lines, reading
from crossrank.errors import DataError, MissingExtra

# The files of one split, as in test-00000-of-00002.parquet, test.jsonl.gz or test.tsv.
_FILE = re.compile(r"(?P<split>.+?)(?:-\d{5}-of-\d{5})?\.(?:parquet|(?:jsonl|csv|tsv)(?:\.gz)?)$")
# Rows of images are large: so many are held at once.
_BATCH_ROWS = 64


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        values: By column.
        file: Where it stands, for errors.
        number: The line of a text file, or the row of a Parquet file, from 1.
    """

    values: Mapping[str, Any]
    file: str
    number: int

    def first(self, *columns: str) -> Any:
        """Return the value of the first of these columns that the table has, or None where it has none of them."""
        return next((self.values[column] for column in columns if column in self.values), None)

    def text(self, *columns: str) -> str:
        """Return the text of the first of these columns that the table has.

        Raises:
            DataError: If it has none of them, or the value is no text.
        """
        value = self.first(*columns)
        if not isinstance(value, str):
            raise self.error(f"no text under {' or '.join(map(repr, columns))} (columns: {', '.join(self.values)})")
        return value

    def key(self, *columns: str) -> str:
        """Return an id: text, or a whole number as text.

        Raises:
            DataError: If there is none.
        """
        value = self.first(*columns)
        if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
            raise self.error(f"no id under {' or '.join(map(repr, columns))} (columns: {', '.join(self.values)})")
        return str(value)

    def ids(self, *columns: str) -> list[str]:
        """Return the ids that the first of these columns lists.

        Raises:
            DataError: If it has none of them, or the value is no list.
        """
        value = self.first(*columns)
        if not isinstance(value, list):
            raise self.error(f"no list under {columns[0]!r} (columns: {', '.join(self.values)})")
        return [str(document_id) for document_id in value]

    def error(self, message: str) -> DataError:
        """Return an error that names the file and the row."""
        if self.file.endswith(".parquet"):
            return DataError(f"row {self.number}: {message}", path=self.file)
        return DataError(message, path=self.file, line=self.number)


class Tables:
    """The configs of a data set: those that the head of its README.md states, otherwise one a folder or a file.

    Source: the `configs` section of dataset cards, huggingface.co/docs/hub/datasets-manual-configuration.
    """

    def __init__(self, source: str | Path, *, revision: str | None = None) -> None:
        self._source = source
        self._revision = revision
        folder = dataset_folder(source, patterns=["README.md"], revision=revision)
        self._stated = _stated_configs(folder / "README.md")
        # Looking for the files of a config asks the hub.
        self._found: dict[str, dict[str, list[Path]]] = {}

    def rows(self, config: str, split: str) -> Iterator[Row]:
        """Yield the rows of one split of a config; the only split there is stands for any.

        Raises:
            DataError: If there is no such config or split, or a file cannot be read.
            MissingExtra: If a file is Parquet and pyarrow is not installed.
        """
        for file in self.splits(config)[self.split_of(config, split)]:
            yield from read_table(file)

    def split_of(self, config: str, split: str) -> str:
        """Return the split that is read where `split` is asked for: itself, or the only one there is.

        Raises:
            DataError: If there is no such config or split.
        """
        splits = self.splits(config)
        if split in splits:
            return split
        if len(splits) != 1:
            found = f"there are {', '.join(sorted(splits))}" if splits else "it has no files"
            raise DataError(f"no split {split!r} in {config!r}: {found}", path=self._source)
        return next(iter(splits))

    def splits(self, config: str) -> dict[str, list[Path]]:
        """Return the files of a config by split; empty where there is no such config."""
        if config not in self._found:
            self._found[config] = self._find(config)
        return self._found[config]

    def _find(self, config: str) -> dict[str, list[Path]]:
        if stated := self._stated.get(config):
            folder = self._folder([pattern for patterns in stated.values() for pattern in patterns])
            found = {split: _matching(folder, patterns) for split, patterns in stated.items()}
            return {split: files for split, files in found.items() if files}
        folder = self._folder([f"{config}/*", f"{config}.*"])
        splits: dict[str, list[Path]] = {}
        for file in sorted([*folder.glob(f"{config}/*"), *folder.glob(f"{config}.*")]):
            if match := _FILE.fullmatch(file.name):
                splits.setdefault(match["split"], []).append(file)
        return splits

    def _folder(self, patterns: list[str]) -> Path:
        return dataset_folder(self._source, patterns=patterns, revision=self._revision)


def _stated_configs(readme: Path) -> dict[str, dict[str, list[str]]]:
    """Return the patterns of the files by config and split."""
    if not readme.is_file():
        return {}
    from huggingface_hub.repocard import metadata_load

    try:
        entries = (metadata_load(readme) or {}).get("configs") or []
        return {entry["config_name"]: _stated_files(entry) for entry in entries}
    except Exception as error:  # YAML of any shape: whatever is wrong in it is wrong with this file
        raise DataError(f"its head is no readable dataset card: {error}", path=readme) from error


def _stated_files(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    files = entry.get("data_files", [])
    if isinstance(files, str) or (files and isinstance(files[0], str)):
        files = [{"split": "train", "path": files}]
    return {file["split"]: [file["path"]] if isinstance(file["path"], str) else list(file["path"]) for file in files}


def _matching(folder: Path, patterns: list[str]) -> list[Path]:
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return [names[name] for name in sorted(names) if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def read_table(file: Path) -> Iterator[Row]:
    """Yield the rows of a Parquet file, JSON lines, CSV or TSV.

    Raises:
        DataError: If the file cannot be read.
        MissingExtra: If it is Parquet and pyarrow is not installed.
    """
    name = display_name(file)
    kind = file.name.removesuffix(".gz")
    if kind.endswith(".parquet"):
        yield from _read_parquet(file, name)
    elif kind.endswith(".jsonl"):
        for line, record in read_json_objects(read_lines(file), name, None):
            yield Row(record, name, line.number)
    else:
        delimiter = "\t" if kind.endswith(".tsv") else ","
        for number, values in csv_records(read_lines(file), name, check=_any_columns, delimiter=delimiter):
            yield Row(values, name, number)


def _any_columns(columns: list[str], line: int | None) -> None:
    """Whoever reads the rows names the column that it lacks."""


def _read_parquet(file: Path, name: str) -> Iterator[Row]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet files", extra="parquet") from error
    number = 0
    try:
        with reading(name), parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                for values in batch.to_pylist():
                    number += 1
                    yield Row(values, name, number)
    except pyarrow.ArrowException as failure:
        raise DataError(f"not a readable Parquet file: {failure}", path=name) from failure
