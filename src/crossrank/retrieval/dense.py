"""Dense retrieval: exact search by blocks over vectors that lie on disk.

Shape letters: `D` documents of one block, `Q` queries of one block, `H` size of a vector.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from crossrank.data.trec import Candidate
from crossrank.errors import DataError, InputError, NumericalError
from crossrank.retrieval.retriever import (
    DocumentIds,
    OnProgress,
    Retrieved,
    best_rows,
    check_search,
    full_text,
)
from crossrank.types import Document, LazyImage

Vectors = npt.NDArray[np.float32]

# Documents of one file of vectors: what an interrupt can cost, and one side of the matrix of scores in memory.
BLOCK_DOCUMENTS = 2048
# The same where documents may be pages, of which each costs as much as some hundred short texts.
BLOCK_PAGES = 64
BLOCK_QUERIES = 1024
# Documents between two reports of progress.
_STEP = 256


class Embedder(Protocol):
    """Texts, and maybe pages, to vectors whose dot product is the score.

    Attributes:
        name: The model, as the user wrote it.
        fingerprint: Changes with everything that a vector depends on besides the document.
    """

    name: str
    fingerprint: str

    @property
    def open_image(self) -> Callable[[Document], LazyImage] | None:
        """What makes of a document's image one that is decoded later; None where text alone is read."""
        ...

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(Q, H)`, in the order given."""
        ...

    def embed_documents(self, texts: Sequence[str], images: Sequence[LazyImage | None]) -> Vectors:
        """Return float32 `(D, H)`, in the order given; the images are all None where none are read."""
        ...


class _Opened(NamedTuple):
    """What is read of a document."""

    text: str
    image: LazyImage | None


class Dense:
    """Exact retrieval with a bi-encoder; holds ids and one block of vectors in memory, never all vectors.

    The vectors of every 2048 documents, or 64 where they may be pages, make one file, named after the model's
    fingerprint and a hash of texts and images. An interrupted index goes on where it stopped, and a corpus that was
    seen before costs nothing but reading it.

    Args:
        embedder: The model.
        cache: Folder of the files; `cache_folder()` where None.
    """

    def __init__(self, embedder: Embedder, *, cache: Path | None = None) -> None:
        self._embedder = embedder
        self._folder = (cache or cache_folder()) / embedder.fingerprint
        self._ids: DocumentIds | None = None
        self._blocks: list[Path] = []
        self._block_documents = BLOCK_PAGES if embedder.open_image else BLOCK_DOCUMENTS
        self.name = f"dense:{embedder.name}"

    def index(self, corpus: Iterable[Document], *, on_progress: OnProgress | None = None) -> None:
        """Read the corpus once, and embed the documents whose vectors are not on disk yet.

        Raises:
            InputError: If a document has no id, an id comes twice, a text is not valid Unicode, or a document is an
                image alone that is not read.
            NumericalError: If the model gives NaN or infinity for a document.
        """
        ids, blocks = DocumentIds(), []
        remaining = iter(corpus)
        while documents := list(islice(remaining, self._block_documents)):
            first = len(ids)
            for document in documents:
                ids.add(document)
            blocks.append(self._store([self._open(document) for document in documents], first, on_progress))
        self._ids, self._blocks = ids, blocks

    def search(self, queries: Mapping[str, str], *, depth: int) -> Iterator[Retrieved]:
        """Yield the queries in the order given, each with its `depth` best documents.

        Raises:
            InputError: If `depth` is below 1, there is no index yet, or a query is not valid Unicode.
            NumericalError: If the model gives NaN or infinity for a query.
            DataError: If a file of vectors is damaged, or was deleted after `index`.
        """
        check_search(depth, is_indexed=self._ids is not None)
        for query_id, text in queries.items():
            _check_unicode(text, f"query {query_id}")
        return self._search(list(queries.items()), depth)

    def _search(self, queries: list[tuple[str, str]], depth: int) -> Iterator[Retrieved]:
        assert self._ids is not None
        for start in range(0, len(queries), BLOCK_QUERIES):
            block = queries[start : start + BLOCK_QUERIES]
            vectors_QH = self._embedder.embed_queries([text for _, text in block])
            _check_finite(vectors_QH, "query", start)
            for (query_id, _), (scores, rows) in zip(block, self._nearest(vectors_QH, depth), strict=True):
                found = zip(rows.tolist(), scores.tolist(), strict=True)
                yield Retrieved(query_id, tuple(Candidate(self._ids[row], score) for row, score in found))

    def _nearest(self, vectors_QH: Vectors, depth: int) -> list[tuple[Vectors, npt.NDArray[np.int64]]]:
        """Return scores and rows of the best documents of each query, best first."""
        best = [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in vectors_QH]
        for number, path in enumerate(self._blocks):
            scores_QD = vectors_QH @ _read(path).T
            rows_D = np.arange(scores_QD.shape[1]) + number * self._block_documents
            for query, scores_D in enumerate(scores_QD):
                # What was found before comes first, so equal scores stay in the order of the corpus.
                scores = np.concatenate([best[query][0], scores_D])
                keep = best_rows(scores, depth)
                best[query] = scores[keep], np.concatenate([best[query][1], rows_D])[keep]
        return best

    def _open(self, document: Document) -> _Opened:
        """Return what is read of a document.

        Raises:
            InputError: If it is an image alone, and images are not read, or its text is not valid Unicode.
        """
        text, open_image = full_text(document), self._embedder.open_image
        _check_unicode(text, f"document {document.id}")
        if document.image is None or (text.strip() and open_image is None):
            return _Opened(text, None)
        if open_image is None:
            raise InputError(
                f"document {document.id}: an image without a text, and {self._embedder.name} reads text alone: search "
                "with a bi-encoder of pages, such as nvidia/llama-nemotron-embed-vl-1b-v2, or read the pages' text"
            )
        return _Opened(text, open_image(document))

    def _store(self, opened: list[_Opened], first: int, on_progress: OnProgress | None) -> Path:
        """Return the file that holds the vectors of these documents; make it if it is not there."""
        path = self._folder / f"{_hash(opened)}.npy"
        if path.is_file():
            if on_progress:
                on_progress(len(opened))
            return path
        parts = []
        for start in range(0, len(opened), _STEP):
            texts, images = zip(*opened[start : start + _STEP], strict=True)
            parts.append(self._embedder.embed_documents(texts, images))
            if on_progress:
                on_progress(len(parts[-1]))
        vectors_DH = np.concatenate(parts)
        _check_finite(vectors_DH, "document", first)
        _write(path, vectors_DH)
        return path


def cache_folder() -> Path:
    """Return where vectors are kept unless the caller says otherwise: `$XDG_CACHE_HOME/crossrank/embeddings`."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "crossrank" / "embeddings"


def fingerprint_files(files: Iterable[tuple[str, Path]], *settings: object) -> str:
    """Return a hash of files, by their names and contents, and of settings."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, path in sorted(files):
        with path.open("rb") as stream:
            digest.update(f"\0{name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}".encode())
    return digest.hexdigest()[:32]


def _hash(opened: Sequence[_Opened]) -> str:
    digest = hashlib.sha256()
    for text, image in opened:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
        if image is not None:
            digest.update(b"\0image\0" + image.key)
    return digest.hexdigest()[:32]


def _check_unicode(text: str, what: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{what} is not valid Unicode (a lone surrogate): {text[:60]!a}; decode it with errors='replace' first"
        ) from None


def _check_finite(vectors: Vectors, what: str, first: int) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise NumericalError(f"the embedding of {what} {first + int(bad[0]) + 1} is not finite")


def _read(path: Path) -> Vectors:
    try:
        vectors: Vectors = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"the vectors cannot be read ({error}): delete the file and index again", path=path) from error
    return vectors


def _write(path: Path, vectors: Vectors) -> None:
    """Write in one step: another process sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as stream:
        temporary = Path(stream.name)
        try:
            np.save(stream, np.ascontiguousarray(vectors, np.float32))
        except BaseException:
            temporary.unlink()
            raise
    temporary.replace(path)
