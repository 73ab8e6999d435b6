"""Images of requests: checked with a limit on everything, handed over, or refused with a reason."""

from __future__ import annotations

import asyncio
import base64
import io
import struct
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image
from running_server import Gate, twin, wait_until

from crossrank import Reranker
from crossrank.serving.exchange import RerankRequest
from crossrank.serving.image_urls import ImageFetcher
from crossrank.serving.images import check_image, read_base64, resolve_images
from crossrank.serving.options import ImageLimits
from crossrank.serving.problems import Kind, Problem
from crossrank.types import Document
from tiny_vision import save_tiny_nemotron_vl

LIMITS = ImageLimits(max_bytes=5000, max_pixels=10_000)


def picture(size=(8, 4), kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (200, 30, 30)).save(buffer, kind, **options)
    return buffer.getvalue()


def data_url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that says it is huge."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100_000)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_formats_of_the_field_are_taken(kind):
    check_image(picture(kind=kind), LIMITS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is none of PNG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is none of PNG"),
        (b"%PDF-1.7", "is none of PNG"),
        (picture()[:45], "is broken"),
        (picture((200, 100)), "has 200 x 100 pixels; at most 10000"),
        (bomb(9_000, 9_000), "has 9000 x 9000 pixels"),
        (bomb(60_000, 60_000), "too many pixels|60000 x 60000"),
    ],
)
def test_what_is_no_small_image_is_refused_before_it_is_unfolded(data, message):
    with pytest.raises(Problem, match=message) as refused:
        check_image(data, LIMITS)
    assert refused.value.kind is Kind.UNUSABLE


def test_data_urls_and_bare_base64_are_read():
    data = picture()
    assert read_base64(data_url(data), LIMITS) == data
    assert read_base64(base64.b64encode(data).decode(), LIMITS) == data


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("data:text/html;base64,PGI+", Kind.UNUSABLE),
        ("data:image/png,rawbytes", Kind.UNUSABLE),
        ("file:///etc/passwd", Kind.UNUSABLE),
        ("/etc/passwd!", Kind.UNUSABLE),
        ("not base64 at all", Kind.UNUSABLE),
        ("A" * 8000, Kind.BODY_TOO_LARGE),
    ],
)
def test_other_strings_are_refused_and_never_opened(text, kind):
    with pytest.raises(Problem) as refused:
        read_base64(text, LIMITS)
    assert refused.value.kind is kind


def resolve(*documents: Document) -> list[Document]:
    request = RerankRequest(pairs=tuple(("q", document) for document in documents))
    return list(asyncio.run(resolve_images(request, LIMITS, ImageFetcher(LIMITS))).documents)


def test_images_are_handed_over_beside_their_texts():
    first, second = resolve(Document("caption", image=data_url(picture())), Document("text"))
    assert (first.text, first.image) == ("caption", picture())
    assert second == Document("text")


def test_a_refusal_says_which_document():
    with pytest.raises(Problem, match="the image of document 1 is none of PNG"):
        resolve(Document("text"), Document("", image=data_url(b"nothing")))


def test_a_model_that_reads_images_gets_them_and_a_model_of_texts_says_that_it_cannot(start, server, stub):
    good = {"text": "Mars", "image": data_url(picture())}
    alone = {"text": "", "image": data_url(picture())}
    bodies = {
        "/v1/ranking": ("passages", {"query": {"text": "red"}, "truncate": "END"}, 422),
        "/jina/v1/rerank": ("documents", {"query": "red"}, 422),
        "/v1/rerank": ("documents", {"query": "red"}, 422),
    }
    for path, (key, rest, status) in bodies.items():
        for image in (alone, data_url(picture())):
            answer = server.post(path, rest | {key: [good, image]})
            assert answer.status_code == status, "also where it comes as a string: its letters are no text to rank"
            assert "document 1 is an image without text" in answer.text, "the text model's own words"
        assert server.post(path, rest | {key: [good]}).status_code == 200

    seen = []
    prepare = type(stub).prepare.__get__(stub)
    stub.prepare = lambda pairs, **options: (
        seen.extend(d for _, d in pairs if not isinstance(d, str))
        or prepare([(q, d if isinstance(d, str) else d.text or "an image") for q, d in pairs], **options)
    )
    seeing = start(stub)
    content = {"content": [{"type": "image_url", "image_url": {"url": data_url(picture())}}]}
    answer = seeing.post("/score", {"queries": "red", "documents": [content], "truncate_prompt_tokens": -1})
    assert answer.status_code == 200, answer.text
    assert [document.image for document in seen] == [picture()]


@pytest.fixture(scope="module")
def page_reranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nemotron-vl")
    save_tiny_nemotron_vl(folder)
    return Reranker.load(folder, device="cpu", dtype="float32")


def test_the_tokens_of_images_are_admitted_before_they_are_decoded(start, page_reranker):
    runtime = start(page_reranker).service.models.default
    pages = RerankRequest(pairs=(("red", Document(image=b"page 1")), ("red", Document(image=b"page 2"))))
    with runtime.place(pages, deadline=time.monotonic() + 60) as ticket:
        print(f"{ticket.cost} tokens for two pages of at most 28 image tokens")
        assert ticket.cost >= 2 * 28


def test_an_image_that_is_cut_short_refuses_its_own_request_and_no_other(start, page_reranker):
    reranker = twin(page_reranker)
    reranker.compute = gate = Gate(reranker)
    server = start(reranker)
    noise = Image.effect_noise((90, 60), 80).convert("RGB")
    whole, cut = (io.BytesIO() for _ in range(2))
    noise.save(whole, "JPEG")
    cut.write(whole.getvalue()[: len(whole.getvalue()) // 2])
    check_image(cut.getvalue(), ImageLimits())

    def ask(images):
        documents = ["a text", *({"image": data_url(image.getvalue(), "jpeg")} for image in images)]
        return server.post("/v1/rerank", {"query": "red", "documents": documents})

    def scores(answer):
        return [result["relevance_score"] for result in answer.json()["results"]]

    gate.opened.clear()
    held = len(gate.batches)
    queue = server.service.models.default.queue
    with ThreadPoolExecutor() as clients:
        try:
            asked = [clients.submit(ask, [])]
            wait_until(lambda: len(gate.batches) > held, 30)
            asked += [clients.submit(ask, images) for images in ([whole], [whole, cut], [cut], [whole, whole])]
            wait_until(lambda: len(queue._ready) == 4, 30)
        finally:
            gate.opened.set()
        answers = [answer.result() for answer in asked]
    for answer in answers:
        print(answer.status_code, answer.text[:160])
    assert [answer.status_code for answer in answers] == [200, 200, 422, 422, 200]
    assert "document 2: the image of" in answers[2].text and "damaged or cut short" in answers[2].text
    assert "document 1: the image of" in answers[3].text
    assert max(map(len, gate.batches)) > 4, "they were computed in one step"
    again = scores(ask([whole]))
    assert again == pytest.approx(scores(answers[1]), rel=1e-4)
    assert server.get("/health").status_code == 200
