"""About how many tokens a request has, told from lengths alone: what admission counts before anything is tokenised."""

from __future__ import annotations

from crossrank.inference.overflow import OnOverflow
from crossrank.serving.exchange import RerankRequest

# English has four to five letters a token; text beyond ASCII mostly fewer, down to one in Chinese.
_ASCII_LETTERS_PER_TOKEN, _OTHER_LETTERS_PER_TOKEN = 4, 2
_SPECIAL_TOKENS = 3


def estimate_tokens(request: RerankRequest, *, max_length: int, on_overflow: OnOverflow, image_tokens: int = 0) -> int:
    """Return about how many tokens are computed for a request, at least 1.

    Args:
        request: Whose texts are not read, and whose images are not decoded.
        max_length: Most tokens of a pair.
        on_overflow: Windows over long documents are counted each.
        image_tokens: Of the largest image; 0 for a model that looks at none.
    """
    limit = min(request.truncation.max_length or max_length, max_length)
    total = 0
    for query, document in request.pairs:
        num_query = _count(query) + _SPECIAL_TOKENS + (image_tokens if document.image is not None else 0)
        num_document = _count(document.text)
        if on_overflow == "chunk":
            num_windows = max(1, -(-num_document // max(1, limit - num_query)))
            total += num_document + num_windows * num_query
        else:
            total += min(limit, num_query + num_document)
    return max(1, total)


def _count(text: str) -> int:
    return len(text) // (_ASCII_LETTERS_PER_TOKEN if text.isascii() else _OTHER_LETTERS_PER_TOKEN) + 1
