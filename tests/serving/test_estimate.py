import pytest

from crossrank.serving.estimate import estimate_tokens
from crossrank.serving.exchange import RerankRequest
from crossrank.types import Document

TEXTS = [
    "Mars is often referred to as the Red Planet.",
    "Die Hauptstadt von Deutschland ist Berlin. " * 30,
    "火星は赤い惑星として知られています。" * 5,
    "",
]


def request(*texts: str) -> RerankRequest:
    return RerankRequest(pairs=tuple(("which planet is red?", Document(text)) for text in texts))


def test_the_estimate_is_near_what_the_shipped_model_counts():
    from crossrank import Reranker

    reranker = Reranker.load()
    for on_overflow in ("truncate", "chunk"):
        for text in TEXTS:
            real = int(reranker.prepare(request(text).pairs, on_overflow=on_overflow).encoded.lengths.sum())
            guess = estimate_tokens(request(text), max_length=reranker.checkpoint.max_length, on_overflow=on_overflow)
            assert 0.5 * real <= guess <= 2.5 * real, (text[:20], real, guess)


@pytest.mark.parametrize("on_overflow", ["truncate", "chunk"])
def test_documents_add_up(on_overflow):
    each = [estimate_tokens(request(text), max_length=128, on_overflow=on_overflow) for text in TEXTS]
    assert estimate_tokens(request(*TEXTS), max_length=128, on_overflow=on_overflow) == sum(each)


def test_what_is_cut_does_not_count_and_windows_do():
    cut, windows = (
        estimate_tokens(request("word " * 5000), max_length=128, on_overflow=o) for o in ("truncate", "chunk")
    )
    assert cut == 128
    assert windows > 5000


@pytest.mark.parametrize("on_overflow", ["truncate", "chunk"])
def test_an_image_counts_as_the_largest_that_the_model_looks_at(on_overflow):
    pages = RerankRequest(pairs=(("red?", Document(image=b"page 1")), ("red?", Document("Mars", image=b"page 2"))))
    texts, images = (
        estimate_tokens(pages, max_length=8192, on_overflow=on_overflow, image_tokens=tokens) for tokens in (0, 1792)
    )
    assert texts < 30
    assert images == texts + 2 * 1792
