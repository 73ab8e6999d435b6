"""Tiny copies of published data sets, as they lie on the hub."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def write_table():
    """Write one split of a config as the hub has it: `CONFIG/SPLIT-00000-of-00001.parquet`."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(folder: Path, config: str, split: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        file = folder / config / f"{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist([dict(row) for row in rows]), file)
        return file

    return write


@pytest.fixture
def write_card():
    """Write the README.md that names the configs, their splits and their files."""

    def write(folder: Path, configs: Mapping[str, Mapping[str, str]]) -> None:
        lines = ["---", "license: mit", "configs:"]
        for config, splits in configs.items():
            lines += [f"- config_name: {config}", "  data_files:"]
            for split, path in splits.items():
                lines += [f"  - split: {split}", f"    path: {path}"]
        (folder / "README.md").write_text("\n".join([*lines, "---", "# A data set", ""]), encoding="utf-8")

    return write


@pytest.fixture
def write_lines():
    """Write lines of JSON, packed where the name ends in .gz."""

    def write(file: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        file.write_bytes(gzip.compress(text) if file.suffix == ".gz" else text)
        return file

    return write
