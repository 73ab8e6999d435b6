"""Which dialect a request speaks: by its path, and where several APIs share one, by what only one of them sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from crossrank.serving.dialects.cohere import CohereV1, CohereV2
from crossrank.serving.dialects.dialect import Dialect
from crossrank.serving.dialects.infinity import Infinity
from crossrank.serving.dialects.jina import Jina
from crossrank.serving.dialects.llamacpp import LlamaCpp, LlamaCppTexts
from crossrank.serving.dialects.nim import Nim
from crossrank.serving.dialects.shared import Shared, SharedWithWeaviate
from crossrank.serving.dialects.tei import Tei
from crossrank.serving.dialects.vllm import VllmRerank, VllmScoring
from crossrank.serving.dialects.voyage import Voyage
from crossrank.serving.dialects.weaviate import Weaviate

COHERE_V1, COHERE_V2, JINA, VOYAGE, NIM, TEI = CohereV1(), CohereV2(), Jina(), Voyage(), Nim(), Tei()
VLLM_RERANK, VLLM_SCORE, INFINITY = VllmRerank(), VllmScoring(), Infinity()
LLAMACPP, LLAMACPP_TEXTS, WEAVIATE = LlamaCpp(), LlamaCppTexts(), Weaviate()
SHARED, SHARED_WITH_WEAVIATE = Shared(), SharedWithWeaviate()

# Each answers under /NAME + path, and nobody else does there.
DIALECTS: tuple[Dialect[Any], ...] = (
    COHERE_V2,
    COHERE_V1,
    JINA,
    VOYAGE,
    NIM,
    TEI,
    VLLM_RERANK,
    VLLM_SCORE,
    INFINITY,
    LLAMACPP,
    WEAVIATE,
)

# Paths without a prefix, and the dialect that is spoken there; `choose` looks closer at the shared ones. The first that
# fits is taken: those that are asked most come first.
OPEN_PATHS: dict[str, Dialect[Any]] = {
    "/v1/rerank": SHARED,
    "/v2/rerank": COHERE_V2,
    "/rerank": SHARED,
    **dict.fromkeys(NIM.paths, NIM),
    "/reranking": LLAMACPP,
    "/v1/reranking": LLAMACPP,
    "/score": VLLM_SCORE,
    "/v1/score": VLLM_SCORE,
}


class Address(NamedTuple):
    """What a path of the server means.

    Attributes:
        dialect: What is spoken there.
        path: The same without the prefix of a dialect.
    """

    dialect: Dialect[Any]
    path: str


# Every path that takes a rerank request.
ADDRESSES: dict[str, Address] = {path: Address(dialect, path) for path, dialect in OPEN_PATHS.items()} | {
    f"/{dialect.name}{path}": Address(dialect, path) for dialect in DIALECTS for path in dialect.paths
}

_VLLM_KEYS = {"truncate_prompt_tokens", "max_tokens_per_query", "use_activation", "chat_template_kwargs"} | {
    "truncation_side",
    "mm_processor_kwargs",
    "cache_salt",
}
_COHERE_KEYS = {"rank_fields", "max_chunks_per_doc"}


def choose(dialect: Dialect[Any], path: str, headers: Mapping[str, str], body: object) -> Dialect[Any]:
    """Return the dialect of a request.

    Args:
        dialect: That of the path.
        path: Without the prefix of a dialect.
        headers: With lower-case names.
        body: The decoded JSON; None where it has not been read.
    """
    keys = set(body) if isinstance(body, dict) else set()
    if isinstance(dialect, LlamaCpp):
        return LLAMACPP_TEXTS if "texts" in keys else LLAMACPP
    if not isinstance(dialect, Shared):
        return dialect
    if headers.get("x-fern-sdk-name") == "cohere" or keys & _COHERE_KEYS:
        return COHERE_V1
    if "texts" in keys:
        return TEI
    if "x-voyage-client-user-agent" in headers or "top_k" in keys:
        return VOYAGE
    return _choose_by_shape(path, keys)


def dialect_of_path(path: str) -> Dialect[Any] | None:
    """Return the dialect that a path is of, also where nothing is behind it; None if it is of no single one."""
    name = path.split("/")[1]
    return OPEN_PATHS.get(path) or next((dialect for dialect in DIALECTS if dialect.name == name), None)


def _choose_by_shape(path: str, keys: set[str]) -> Dialect[Any]:
    if keys & _VLLM_KEYS:
        return VLLM_RERANK
    if "raw_scores" in keys:
        return INFINITY
    if "property" in keys:
        return WEAVIATE
    if path == "/rerank" and keys in ({"query", "documents"}, set()):
        return SHARED_WITH_WEAVIATE
    return SHARED
