"""A reranking service as a `Ranker` and a `Scorer`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import InputError, NumericalError, RemoteError
from crossrank.integrations.remote.providers import PROVIDERS, Answered, Call, Provider, ScoreType
from crossrank.integrations.remote.transport import Transport, check_url
from crossrank.types import Document, DocumentLike, Hit, Ranking, Scores, to_document

if TYPE_CHECKING:
    import httpx

# A probability closer to 0 or 1 than this says no more than float32 can: its logit would be infinite.
_CLOSEST = 1e-7
_ENDINGS = ("/rerank", "/reranking", "/ranking", "/score")


class RemoteReranker:
    """Scores and ranks over HTTP; may be called from many threads at once.

    `rank` gives the scores on the service's own scale. `score` gives logits: the service's own where it has them, and
    otherwise the log-odds of its probabilities, which order the same. Requests are cut to what the service takes and
    merged, so its scores must be of each document alone; a listwise model, as jina-reranker-v3 is, should get all
    documents of a query in one request.

    Attributes:
        provider: The API.
        model: What the service calls its model, or None.
    """

    def __init__(
        self,
        provider: str,
        model: str | None = None,
        *,
        url: str | None = None,
        key_variable: str | None = None,
        timeout_s: float = 60.0,
        max_retries: int = 5,
        concurrency: int = 4,
        max_documents: int | None = None,
        extra_body: Mapping[str, Any] | None = None,
        client: httpx.Client | None = None,
    ) -> None:
        """Choose a service; nothing is sent yet.

        Args:
            provider: `"cohere"`, `"jina"`, `"voyage"`, `"nim"`, `"tei"`, `"vllm"`, `"infinity"` or `"crossrank"`.
            model: What the service calls its model; needed where it is hosted.
            url: Of one's own server, with or without the path; None for the hosted service.
            key_variable: The environment variable with the key; the provider's usual one if None.
            timeout_s: Of one attempt, to connect and between two pieces of the answer.
            max_retries: Attempts after the first, where it failed in a way that passes.
            concurrency: Requests at a time.
            max_documents: Of one request; the documented limit of the service if None.
            extra_body: More keys for every request, as the service documents them.
            client: To send with, for proxies or certificates of one's own.

        Raises:
            InputError: If the provider is unknown, or a model, a URL or a key is missing.
            MissingExtra: If httpx is not installed.
        """
        if provider not in PROVIDERS:
            raise InputError(f"provider must be one of {', '.join(PROVIDERS)}, not {provider!r}")
        if concurrency < 1 or max_retries < 0 or timeout_s <= 0 or (max_documents is not None and max_documents < 1):
            raise InputError("concurrency, timeout_s and max_documents must be above 0, and max_retries not below")
        self.provider = PROVIDERS[provider]
        self.model = model
        self._url = None if url is None else check_url(url)
        self._hosted = _hosted(self.provider, model) if url is None else None
        self._transport = Transport(
            key=_key(self.provider, key_variable, is_hosted=url is None),
            timeout_s=timeout_s,
            max_retries=max_retries,
            client=client,
        )
        self._concurrency = concurrency
        self._max_documents = max_documents or self.provider.max_documents
        self._extra_body = dict(extra_body or {})

    def __repr__(self) -> str:
        return f"RemoteReranker({self.provider.name!r}, {self.model!r})"

    def __enter__(self) -> RemoteReranker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def rank(
        self,
        query: str,
        documents: Sequence[DocumentLike],
        *,
        top_k: int | None = None,
        score_type: ScoreType | None = None,
    ) -> Ranking:
        """Rank documents for a query: score descending, equal scores in input order.

        Args:
            query: What to rank for.
            documents: As for `Reranker.rank`; images where the service reads them.
            top_k: Keep the best k; all if None.
            score_type: `"logit"` or `"probability"`, where the service has a choice; what it gives first if None.

        Raises:
            InputError: If an argument cannot be used.
            RemoteError: If the service refuses, fails after all retries, or leaves a document out.
            NumericalError: If a score is NaN or infinite.
        """
        known = self.provider.score_types
        scale = score_type or known[0]
        if scale not in known:
            raise InputError(f"{self.provider.name} gives {' or '.join(known)}, not {scale!r}")
        if top_k is not None and top_k < 1:
            raise InputError(f"top_k must be at least 1, or None for all, not {top_k}")
        if isinstance(documents, str | bytes | Mapping):
            raise InputError("documents must be a list of documents, not one document")
        pairs = self._check([(query, document) for document in documents])
        answered = self._run(pairs, scale)
        best = np.argsort([-item.score for item in answered], kind="stable")[:top_k]
        hits = tuple(_hit(answered[i], pairs[i][1], int(i)) for i in best)
        return Ranking(query, hits, score_type=scale, model=self.model or self.provider.name)

    def score(self, pairs: Sequence[tuple[str, str | Document]]) -> Scores:
        """Return one logit a pair, float32 `(P,)`, in the order given; higher is more relevant.

        Raises:
            InputError: If an item is not a pair.
            RemoteError: As in `rank`, or if the service's scores are neither logits nor probabilities.
            NumericalError: If a score is NaN or infinite.
        """
        scale = self.provider.score_types[0]
        scores = np.array([item.score for item in self._run(self._check(pairs), scale)], np.float64)
        return (scores if scale == "logit" else self._log_odds(scores)).astype(np.float32)

    def _log_odds(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if np.any((scores < 0) | (scores > 1)):
            raise RemoteError(f"{self.provider.name} gave a score outside 0..1, which has no logit: use rank instead")
        clipped = np.clip(scores, _CLOSEST, 1 - _CLOSEST)
        odds: npt.NDArray[np.float64] = np.log(clipped) - np.log1p(-clipped)
        return odds

    def _check(self, pairs: Sequence[tuple[str, DocumentLike]]) -> list[tuple[str, Document]]:
        checked = []
        for index, pair in enumerate(pairs):
            if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
                raise InputError(f"pair {index} must be (query, document), not {str(pair)[:80]!r}")
            if not pair[0].strip():
                raise InputError(f"the query of pair {index} is empty")
            document = _document(pair[1], index)
            if document.image is not None and not self.provider.reads_images and not document.text.strip():
                raise InputError(f"document {index} is an image without text, and {self.provider.name} reads text")
            checked.append((pair[0], document))
        return checked

    def _run(self, pairs: list[tuple[str, Document]], scale: ScoreType) -> list[Answered]:
        """Return the answer to each pair, `(P,)`, in the order given."""
        answers: list[Answered | None] = [None] * len(pairs)
        batches = list(self._batches(pairs))
        with ThreadPoolExecutor(min(self._concurrency, len(batches)) or 1) as pool:
            futures = [pool.submit(self._ask, [pairs[i] for i in batch], scale) for batch in batches]
            try:
                for batch, future in zip(batches, futures, strict=True):
                    for index, item in zip(batch, future.result(), strict=True):
                        answers[index] = item
            finally:
                pool.shutdown(cancel_futures=True)
        return [item for item in answers if item is not None]

    def _batches(self, pairs: list[tuple[str, Document]]) -> Iterator[list[int]]:
        """Yield the places of the pairs of each request: of one query, and within the limits of the service."""
        groups: dict[str, list[int]] = {}
        for index, (query, _) in enumerate(pairs):
            groups.setdefault("" if self.provider.mixes_queries else query, []).append(index)
        for group in groups.values():
            batch: list[int] = []
            size = 0
            for index in group:
                weight = _weight(*pairs[index])
                if batch and (len(batch) == self._max_documents or size + weight > self.provider.max_bytes):
                    yield batch
                    batch, size = [], 0
                batch.append(index)
                size += weight
            yield batch

    def _ask(self, pairs: list[tuple[str, Document]], scale: ScoreType) -> list[Answered]:
        """Return the answer to the pairs of one request, in the order given."""
        call = Call(pairs, self.model, scale)
        url = self._hosted or _join(self._url or "", self.provider.path_of(call))
        answer = self._transport.post(url, self.provider.body(call) | self._extra_body)
        try:
            answered = sorted(self.provider.read(answer))
        except (KeyError, TypeError, ValueError, IndexError):
            raise RemoteError(
                f"{self.provider.name} answered in another shape than it documents: is it {url}?"
            ) from None
        if [item.index for item in answered] != list(range(len(pairs))):
            raise RemoteError(f"{self.provider.name} answered {len(answered)} scores for {len(pairs)} documents")
        wrong = next((item for item in answered if not math.isfinite(item.score)), None)
        if wrong is not None:
            raise NumericalError(f"{self.provider.name} gave {wrong.score} for document {wrong.index} of a request")
        return answered


def _hit(item: Answered, document: Document, index: int) -> Hit:
    """Return a hit; a span counts from the text alone, and the service read the title before it."""
    span = item.span
    if span and document.title:
        shift = len(document.title) + 1
        span = (max(0, span[0] - shift), max(0, span[1] - shift))
    return Hit(index, item.score, document, item.truncated, span)


def _document(value: DocumentLike, index: int) -> Document:
    """Return a document; unlike for a model that reads text, an image needs none beside it."""
    if isinstance(value, Document):
        return replace(to_document(replace(value, image=None), index), image=value.image)
    if isinstance(value, Mapping) and value.get("image") is not None:
        return replace(to_document({"text": "", **value, "image": None}, index), image=value["image"])
    return to_document(value, index)


def _hosted(provider: Provider, model: str | None) -> str:
    if model is None and (provider.needs_model or provider.hosted("") is not None):
        raise InputError(f"{provider.name} needs a model: name one, or give the url of a server of your own")
    url = provider.hosted(model)
    if url is None:
        raise InputError(f"{provider.name} is not a hosted service: give the url of the server")
    return url


def _key(provider: Provider, variable: str | None, *, is_hosted: bool) -> str | None:
    name = variable or provider.key_variable
    key = os.environ.get(name, "").strip()
    if not key and (is_hosted or variable is not None):
        raise InputError(f"{provider.name} needs a key: set the environment variable {name}")
    if not key.isascii() or not key.isprintable():
        raise InputError(f"the key in {name} holds characters that no HTTP header can")
    return key or None


def _join(url: str, path: str) -> str:
    """Return the address of a request, whether the URL has the path, its first part, or nothing of it."""
    if url.endswith(_ENDINGS):
        return url
    return url + (path.removeprefix("/v1") if url.endswith("/v1") else path)


def _weight(query: str, document: Document) -> int:
    """Return the bytes of a pair in a request; base64 makes an image a third larger."""
    texts = len(json.dumps([query, document.title, document.text], ensure_ascii=False).encode("utf-8", "replace"))
    image = document.image
    if isinstance(image, str) and image.startswith(("data:", "http:", "https:")):
        return texts + len(image)
    if isinstance(image, str | Path) and Path(image).is_file():
        return texts + Path(image).stat().st_size * 4 // 3
    return texts + (len(image) * 4 // 3 if isinstance(image, bytes) else 0)
