"""Bi-encoders: which loader a checkpoint gets, and its texts and pages to vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crossrank.encoding.images import ImageSource
from crossrank.errors import CheckpointError, MissingExtra, UnsupportedModel
from crossrank.models.bidirectional_layout import BACKBONES
from crossrank.models.hub import download
from crossrank.models.json_files import read_json_list, read_optional_object
from crossrank.models.modular_layout import MODULES_FILE
from crossrank.models.quiet import quiet_transformers
from crossrank.models.visual_families import NEMOTRON_VL_EMBEDDING
from crossrank.models.weights import find_weight_files
from crossrank.retrieval.dense import Embedder, Vectors, fingerprint_files
from crossrank.types import Document, LazyImage

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# Files of a folder that cannot change a vector.
_IGNORED = (".md", ".py", ".gitattributes", ".gitignore")
_BATCH_SIZE = 32


def open_embedder(model: str | Path, *, revision: str | None = None, device: str | None = None) -> Embedder:
    """Load a bi-encoder.

    Args:
        model: A folder, or a name on the hub.
        revision: Branch, tag or commit on the hub.
        device: As torch names it; None takes what is there.

    Raises:
        CheckpointError: If the checkpoint cannot be found or is broken.
        UnsupportedModel: If it does not say how its vectors are made, or needs code of its own.
        MissingExtra: If what it needs is not installed.
    """
    folder = _find_folder(model, revision)
    if _model_type(folder) == NEMOTRON_VL_EMBEDDING:
        return NemotronPageEmbedder(folder, name=str(model), device=device)
    if _model_type(folder) in BACKBONES:
        return BidirectionalDecoderEmbedder(folder, name=str(model), device=device)
    if not (folder / MODULES_FILE).is_file():
        raise UnsupportedModel(
            f"{model}: no modules.json, so nothing says how token vectors become one: give a bi-encoder that "
            "sentence-transformers has saved"
        )
    return SentenceTransformersEmbedder(folder, name=str(model), device=device)


def reads_pages(model: str | Path, *, revision: str | None = None) -> bool:
    """Return whether a bi-encoder looks at images, off its `config.json` alone.

    Raises:
        CheckpointError: If the checkpoint cannot be found.
    """
    return bool(_model_type(_find_folder(model, revision)) == NEMOTRON_VL_EMBEDDING)


class SentenceTransformersEmbedder:
    """A model of sentence-transformers, with the prompts, pooling and normalisation of its own files.

    Where its similarity is the cosine, vectors are normalised; where it is the dot product, they stay as they are. A
    float32 model on a CPU with bfloat16 tiles multiplies its matrices in bfloat16 and does the rest in float32: more
    than twice as fast for MiniLM-L6, and its cosines move by less than 1e-4.

    Args:
        folder: The checkpoint.
        name: As the user wrote it.
        device: As torch names it; None takes what is there.

    Raises:
        CheckpointError: If the checkpoint is broken.
        UnsupportedModel: If its similarity is a distance, or it needs code of its own.
        MissingExtra: If sentence-transformers is not installed.
    """

    open_image = None

    def __init__(self, folder: Path, *, name: str, device: str | None = None) -> None:
        self.name = name
        self._model = _load(folder, name, device)
        similarity = self._model.similarity_fn_name
        if similarity not in ("cosine", "dot"):
            raise UnsupportedModel(f"{name}: similarity {similarity!r} is not supported: only cosine and dot product")
        self._normalise = similarity == "cosine"
        parameter = next(self._model.parameters())
        self._arithmetic = _fast_arithmetic(parameter)
        precision = str(parameter.dtype) if self._arithmetic is None else f"{parameter.dtype}, {self._arithmetic}"
        self.fingerprint = fingerprint_files(_model_files(folder), "sentence-transformers", precision)

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(Q, H)`; the model's prompt for queries stands before each."""
        return self._embed(self._model.encode_query, texts)

    def embed_documents(self, texts: Sequence[str], images: Sequence[LazyImage | None] = ()) -> Vectors:
        """Return float32 `(D, H)`; the model's prompt for documents stands before each."""
        return self._embed(self._model.encode_document, texts)

    def _embed(self, encode: Any, texts: Sequence[str]) -> Vectors:
        import torch

        with torch.autocast("cpu", self._arithmetic) if self._arithmetic else nullcontext():
            vectors: Vectors = encode(
                list(texts), batch_size=_BATCH_SIZE, normalize_embeddings=self._normalise, show_progress_bar=False
            )
        return np.asarray(vectors, np.float32)


class BidirectionalDecoderEmbedder:
    """A bidirectional decoder with the prompts of nvidia/llama-nemotron-embed-1b-v2: mean pooling, unit vectors.

    Args:
        folder: The checkpoint.
        name: As the user wrote it.
        device: As torch names it; None takes CUDA where it is, else the CPU.

    Raises:
        CheckpointError: If the checkpoint is broken.
        MissingExtra: If torch or transformers is not installed.

    Source: the model card of nvidia/llama-nemotron-embed-1b-v2.
    """

    open_image = None

    def __init__(self, folder: Path, *, name: str, device: str | None = None) -> None:
        self.name = name
        try:
            import torch

            from crossrank.models.embedding import BidirectionalEmbedder
        except ImportError:
            raise MissingExtra(f"embedding with {name}", extra="dense") from None
        chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._model = BidirectionalEmbedder(folder, where=name, device=chosen)
        self.fingerprint = fingerprint_files(_model_files(folder), "bidirectional", str(self._model.dtype))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(Q, H)`; `query: ` stands before each."""
        return self._model.embed([f"query: {text}" for text in texts])

    def embed_documents(self, texts: Sequence[str], images: Sequence[LazyImage | None] = ()) -> Vectors:
        """Return float32 `(D, H)`; `passage: ` stands before each."""
        return self._model.embed([f"passage: {text}" for text in texts])


class NemotronPageEmbedder:
    """SigLIP and a bidirectional Llama as nvidia/llama-nemotron-embed-vl-1b-v2: texts, images or both to unit vectors.

    Args:
        folder: The checkpoint.
        name: As the user wrote it.
        device: As torch names it; None takes CUDA where it is, else the CPU.

    Raises:
        CheckpointError: If the checkpoint is broken.
        MissingExtra: If torch, transformers or Pillow is not installed.
    """

    def __init__(self, folder: Path, *, name: str, device: str | None = None) -> None:
        self.name = name
        try:
            import torch

            from crossrank.models.page_embedding import PageEmbedder
        except ImportError:
            raise MissingExtra(f"embedding with {name}", extra="dense") from None
        self._model = PageEmbedder(
            folder, where=name, device=device or ("cuda" if torch.cuda.is_available() else "cpu")
        )
        self.fingerprint = fingerprint_files(_model_files(folder), "pages", str(self._model.dtype))

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(Q, H)`; the checkpoint's prefix for queries stands before each."""
        return self._model.embed_queries(texts)

    def embed_documents(self, texts: Sequence[str], images: Sequence[LazyImage | None]) -> Vectors:
        """Return float32 `(D, H)`; the checkpoint's prefix for passages stands before each, then the image."""
        return self._model.embed_documents(texts, images)

    def open_image(self, document: Document) -> LazyImage:
        """Return the image of a document, to be decoded later.

        Raises:
            InputError: If it is of a type that is not read.
            MissingExtra: If Pillow is not installed.
        """
        image = document.image
        return image if isinstance(image, LazyImage) else ImageSource(image, where=f"document {document.id}")


def _find_folder(model: str | Path, revision: str | None) -> Path:
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else download(str(model), revision=revision)


def _model_type(folder: Path) -> Any:
    return read_optional_object(folder / "config.json").get("model_type")


def _load(folder: Path, name: str, device: str | None) -> SentenceTransformer:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtra(f"embedding with {name}", extra="dense") from None
    _check_weights(folder)
    try:
        with quiet_transformers():
            return SentenceTransformer(
                str(folder), device=device, local_files_only=True, trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )  # fmt: skip
    except (OSError, ValueError, KeyError, ImportError, AttributeError) as error:
        raise CheckpointError(f"{name}: sentence-transformers cannot load it: {error}") from error


def _fast_arithmetic(parameter: torch.Tensor) -> torch.dtype | None:
    """Return what matrices are multiplied in, where that is not the precision of the weights."""
    import torch

    from crossrank.models.onednn import has_bfloat16_tiles

    is_float32_on_cpu = parameter.device.type == "cpu" and parameter.dtype == torch.float32
    return torch.bfloat16 if is_float32_on_cpu and has_bfloat16_tiles() else None


def _check_weights(folder: Path) -> None:
    """Refuse pickles before anything reads them."""
    for entry in read_json_list(folder / MODULES_FILE):
        module = folder / str(entry.get("path", "")) if isinstance(entry, dict) else folder
        if module == folder or any(module.glob("*.bin")):
            find_weight_files(module)


def _model_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not name.startswith(".") and not name.endswith(_IGNORED):
            yield name, path
