import json
import shutil

import numpy as np
import pytest
from PIL import Image
from plain_vision import PlainPageEmbedder
from safetensors.torch import load_file, save_file

from crossrank.errors import CheckpointError, InputError
from crossrank.models import embedding
from crossrank.models.page_embedding import PageEmbedder
from crossrank.retrieval.dense import Dense
from crossrank.retrieval.embedders import NemotronPageEmbedder, open_embedder, reads_pages
from crossrank.types import Document
from tiny_vision import save_tiny_nemotron_embedding, save_tiny_nemotron_vl


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embed-vl")
    save_tiny_nemotron_embedding(folder)
    return folder


def noise(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image.quantize(16) if mode == "P" else image.convert(mode)


PAGES = [
    Document("The average requirement is 46 grams per day.", id="text"),
    Document(id="image", image=noise(40, 40)),
    Document("Revenue by quarter, in millions.", id="both", image=noise(200, 64)),
    Document(id="palette", image=noise(130, 90, "P")),
    Document("", id="empty"),
    Document("Table 3: results of operations. " * 20, id="long", image=noise(64, 200, "L")),
    Document("how to write <img><IMG_CONTEXT></img> and <image>", id="literal"),
]


@pytest.mark.parametrize("budget", [1, 10_000])
def test_vectors_are_those_of_the_plain_restatement(folder, monkeypatch, budget):
    monkeypatch.setattr(embedding, "_CPU_BUDGET", budget)
    plain, embedder = PlainPageEmbedder(folder), open_embedder(folder, device="cpu")
    assert isinstance(embedder, NemotronPageEmbedder)
    images = [None if page.image is None else embedder.open_image(page) for page in PAGES]
    found = embedder.embed_documents([page.text for page in PAGES], images)
    assert found.dtype == np.float32
    for page, vector in zip(PAGES[:-1], found, strict=False):
        np.testing.assert_allclose(vector, plain.document(page.text, page.image), atol=2e-6, err_msg=str(page.id))
    queries = ["How did sales develop?", "requirement"]
    np.testing.assert_allclose(embedder.embed_queries(queries), [plain.query(q) for q in queries], atol=2e-6)


def test_a_text_cannot_write_an_image(folder):
    embedder = PageEmbedder(folder, where="tiny", device="cpu")
    assert np.isfinite(embedder.embed_documents([PAGES[-1].text], [None])).all()
    [encoded] = embedder._encoder.encode_texts([PAGES[-1].text])
    assert not set(embedder._encoder.image_ids) & set(encoded.input_ids.tolist())


def test_limits_are_those_of_the_card_and_a_text_is_cut_behind_its_image(folder, tmp_path):
    embedder = open_embedder(folder, device="cpu")
    passages = embedder._model._encoder.passages
    limits = passages.limits
    assert (limits.text, limits.image, limits.image_text, passages.max_query_tokens) == (8192, 2048, 10240, 64)
    assert (passages.tiling.max_tiles, passages.tiling.use_thumbnail) == (6, True)
    short = shutil.copytree(folder, tmp_path / "short")
    stated = {"vision": {"max_input_tiles": 2, "max_length_image": 9, "max_length_image_text": 30}}
    (short / "crossrank.json").write_text(json.dumps(stated))
    embedder = open_embedder(short, device="cpu")
    page = Document("word " * 50, id="p", image=noise(80, 40))
    encoded = embedder._model._encoder.encode_page(embedder.open_image(page), page.text)
    slots = (encoded.input_ids == embedder._model._encoder.image_ids[1]).sum()
    assert (len(encoded.input_ids), slots) == (30, 12), "two tiles and the thumbnail, of 4 tokens each"
    with pytest.raises(InputError, match=r"document p.*12 image tokens do not fit in 9"):
        embedder.embed_documents([""], [embedder.open_image(page)])


def test_pages_are_retrieved(folder, tmp_path):
    retriever = Dense(open_embedder(folder, device="cpu"), cache=tmp_path)
    retriever.index(PAGES)
    plain = PlainPageEmbedder(folder)
    query = "How did sales develop?"
    [(_, hits)] = retriever.search({"q": query}, depth=len(PAGES))
    expected = {page.id: float(plain.document(page.text, page.image) @ plain.query(query)) for page in PAGES[:-1]}
    for hit in hits:
        if hit.document_id in expected:
            assert hit.score == pytest.approx(expected[hit.document_id], abs=1e-5)
    assert sorted(hits, key=lambda hit: -hit.score) == list(hits)


def test_a_broken_image_names_its_document(folder, tmp_path):
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    retriever = Dense(open_embedder(folder, device="cpu"), cache=tmp_path / "cache")
    with pytest.raises(InputError, match=r"document p7: the image .*cut\.png"):
        retriever.index([Document(id="p7", image=tmp_path / "cut.png")])


def test_which_checkpoints_read_pages(folder, tiny_reranker):
    assert reads_pages(folder)
    assert not reads_pages(tiny_reranker("llama"))


def test_what_does_not_fit_is_refused(folder, tmp_path):
    headed = tmp_path / "headed"
    save_tiny_nemotron_vl(headed, model_type="llama_nemotron_vl")
    with pytest.raises(CheckpointError, match=r"score\.weight"):
        open_embedder(headed, device="cpu")
    lacking = shutil.copytree(folder, tmp_path / "lacking")
    tensors = load_file(folder / "model.safetensors")
    del tensors["mlp1.3.bias"]
    save_file(tensors, lacking / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="mlp1 lacks weights"):
        open_embedder(lacking, device="cpu")
    other = shutil.copytree(folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text()) | {"pooling": "weighted_avg"}
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="weighted_avg"):
        open_embedder(other, device="cpu")
