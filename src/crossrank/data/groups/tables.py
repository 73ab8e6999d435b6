"""Arrow files of rows: written batch by batch, read by row number from the page cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import MissingExtra

# A batch is written when it has so many rows or so many bytes of text and images.
BATCH_ROWS = 4096
BATCH_BYTES = 16 << 20


def import_pyarrow() -> Any:
    """Return pyarrow.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtra("training data", extra="train") from error
    return pyarrow


class TableWriter:
    """Writes rows to an Arrow file; holds one batch in memory."""

    def __init__(self, path: Path, schema: Any) -> None:
        self._schema = schema
        self._sink = import_pyarrow().OSFile(str(path), "wb")
        self._file = import_pyarrow().ipc.new_file(self._sink, schema)
        self._rows: list[tuple[Any, ...]] = []
        self._size = 0
        self.num_rows = 0

    def add(self, row: tuple[Any, ...], *, size: int) -> int:
        """Append a row of about `size` bytes, one value a field of the schema; return its number, from 0."""
        self._rows.append(row)
        self._size += size
        self.num_rows += 1
        if len(self._rows) >= BATCH_ROWS or self._size >= BATCH_BYTES:
            self._flush()
        return self.num_rows - 1

    def _flush(self) -> None:
        if self._rows:
            pyarrow = import_pyarrow()
            columns = zip(*self._rows, strict=True)
            arrays = [pyarrow.array(column, f.type) for column, f in zip(columns, self._schema, strict=True)]
            self._file.write_batch(pyarrow.record_batch(arrays, schema=self._schema))
        self._rows, self._size = [], 0

    def close(self) -> None:
        """Write what is left and close the file."""
        if not self._sink.closed:
            self._flush()
            self._file.close()
            self._sink.close()

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._sink.close()


class Table:
    """An Arrow file, mapped into memory: a row takes no memory until it is read, and none after."""

    def __init__(self, path: Path) -> None:
        pyarrow = import_pyarrow()
        self._file = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
        self._starts = np.cumsum([0, *(batch.num_rows for batch in self.batches())], dtype=np.int64)
        self._columns: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def row(self, number: int) -> dict[str, Any]:
        """Return the values of a row by field."""
        columns, offset = self._locate(number)
        return {name: column[offset].as_py() for name, column in columns.items()}

    def value(self, number: int, field: str) -> Any:
        """Return one value of a row."""
        columns, offset = self._locate(number)
        return columns[field][offset].as_py()

    def list_value(self, number: int, field: str) -> npt.NDArray[Any]:
        """Return one value of a row, of a field that holds lists of numbers."""
        columns, offset = self._locate(number)
        values: npt.NDArray[Any] = columns[field][offset].values.to_numpy()
        return values

    def _locate(self, number: int) -> tuple[dict[str, Any], int]:
        at = int(np.searchsorted(self._starts, number, side="right")) - 1
        columns = self._columns.get(at)
        if columns is None:
            batch = self._file.get_batch(at)
            columns = self._columns[at] = dict(zip(batch.schema.names, batch.columns, strict=True))
        return columns, number - int(self._starts[at])

    def batches(self) -> Iterator[Any]:
        """Yield the record batches, each in memory only where it is read."""
        return (self._file.get_batch(at) for at in range(self._file.num_record_batches))


def map_numbers(path: Path, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Return the numbers of a file, mapped into memory."""
    return np.memmap(path, dtype, "r") if path.stat().st_size else np.zeros(0, dtype)
