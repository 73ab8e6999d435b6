"""Files and folders to documents: which reader a path gets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Protocol

from crossrank.data.image_files import IMAGE_EXTENSIONS, image_documents
from crossrank.data.pages import attach_image
from crossrank.data.paragraphs import markdown_documents, text_documents
from crossrank.data.pdf import PDF_EXTENSION, pdf_documents
from crossrank.data.records import csv_documents, jsonl_documents, parquet_documents
from crossrank.data.text import STDIN, Line, SkippedLines, display_name, read_lines, reading
from crossrank.errors import DataError
from crossrank.types import Document


class _TableReader(Protocol):
    def __call__(
        self, lines: Iterable[Line], name: str, *, text_column: str | None, skipped: SkippedLines | None
    ) -> Iterator[Document]: ...


class _TextReader(Protocol):
    def __call__(self, lines: Iterable[Line], name: str, *, skipped: SkippedLines | None) -> Iterator[Document]: ...


_TABLES: dict[str, _TableReader] = {
    ".jsonl": jsonl_documents,
    ".ndjson": jsonl_documents,
    ".csv": csv_documents,
    ".tsv": partial(csv_documents, delimiter="\t"),
}
_TEXTS: dict[str, _TextReader] = {".md": markdown_documents, ".markdown": markdown_documents, ".txt": text_documents}
_PARQUET = ".parquet"
# Never packed: random access into the file.
_WHOLE = (_PARQUET, PDF_EXTENSION, *IMAGE_EXTENSIONS)
EXTENSIONS = (*_TABLES, *_TEXTS, *_WHOLE)


def read_documents(
    paths: Iterable[str | Path], *, text_column: str | None = None, skipped: SkippedLines | None = None
) -> Iterator[Document]:
    """Yield the documents of files and folders, in the order given.

    JSONL, CSV and TSV give a document a row, Parquet too, and a field `image` of it is a path in the file's folder or
    a data URL; Markdown and plain text give one a paragraph, and these but
    Parquet may be packed with gzip (`.gz`). A PDF gives one a page, with its text layer and its image; an image file
    is a document. A folder is searched through in sorted order for files of these kinds; hidden ones and links to
    other folders are passed over.
    Standard input (`-`) and pipes are JSONL where they start with `{`, else plain text. The same id may stand in
    several documents.

    Args:
        paths: Files, folders, or `-`.
        text_column: The field that holds the text, in the kinds that have fields; `text` where None.
        skipped: Bad lines and pages are counted here and left out. Without it the first one is an error.

    Raises:
        DataError: If a path is missing, unreadable or of an unknown kind, or a line or a page is bad.
        MissingExtra: If a file is Parquet or PDF, and pyarrow or pypdfium2 is not installed.
    """
    for path in paths:
        for file in _files(path):
            yield from _read_file(file, text_column, skipped)


def _files(path: str | Path) -> Sequence[str | Path]:
    if str(path) == STDIN or not Path(path).is_dir():
        return [path]
    found: list[Path] = []
    with reading(display_name(path)):
        for folder, folders, names in os.walk(path, onerror=_raise):
            folders[:] = [name for name in folders if not name.startswith(".")]
            known = (Path(folder, name) for name in names if not name.startswith(".") and _kind(name))
            found += [file for file in known if not _is_pipe(file)]  # a reader would wait for a writer
    if not found:
        raise DataError(f"no files of a known kind in this folder ({', '.join(EXTENSIONS)})", path=display_name(path))
    return sorted(found)


def _raise(error: OSError) -> None:
    raise error


def _kind(name: str | Path) -> str | None:
    """Return the extension that decides the reader, or None where no reader takes the file."""
    stem = str(name).lower()
    packed = stem.endswith(".gz")
    kind = Path(stem.removesuffix(".gz")).suffix
    return kind if kind in EXTENSIONS and not (packed and kind in _WHOLE) else None


def _read_file(path: str | Path, text_column: str | None, skipped: SkippedLines | None) -> Iterator[Document]:
    name = display_name(path)
    kind = _kind(path)
    if kind == _PARQUET:
        return _with_images(parquet_documents(Path(path), text_column=text_column, skipped=skipped), path)
    if kind == PDF_EXTENSION:
        return pdf_documents(Path(path), skipped=skipped)
    if kind in IMAGE_EXTENSIONS:
        return image_documents(Path(path))
    if kind in _TABLES:
        rows = _TABLES[kind](read_lines(path), name, text_column=text_column, skipped=skipped)
        return _with_images(rows, path)
    if kind in _TEXTS:
        return _TEXTS[kind](read_lines(path), name, skipped=skipped)
    if str(path) == STDIN or _is_pipe(path):
        return _with_images(_sniffed(read_lines(path), name, text_column, skipped), STDIN)
    raise DataError(_unknown_kind(path), path=name)


def _with_images(documents: Iterator[Document], path: str | Path) -> Iterator[Document]:
    return (attach_image(document, Path(path).parent) for document in documents)


def _is_pipe(path: str | Path) -> bool:
    return Path(path).exists() and not Path(path).is_file()


def _unknown_kind(path: str | Path) -> str:
    if not Path(path).exists():
        return "no such file"
    return f"unknown kind of file; known are {', '.join(EXTENSIONS)}; plain text can be piped in (`-`)"


def _sniffed(
    lines: Iterator[Line], name: str, text_column: str | None, skipped: SkippedLines | None
) -> Iterator[Document]:
    seen: list[Line] = []
    for line in lines:
        seen.append(line)
        if line.text.strip():
            break
    everything = chain(seen, lines)
    if seen and seen[-1].text.startswith("%PDF-"):
        raise DataError("a PDF cannot be piped in: give its path", path=name)
    if seen and seen[-1].text.lstrip().startswith("{"):
        return jsonl_documents(everything, name, text_column=text_column, skipped=skipped)
    return text_documents(everything, name, skipped=skipped)
