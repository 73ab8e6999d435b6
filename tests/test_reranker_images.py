import io

import numpy as np
import pytest
from PIL import Image

from crossrank import Document, Reranker
from crossrank.errors import InputError
from crossrank.types import hit_label
from tiny_vision import save_tiny_nemotron_vl

QUERY = "How did sales develop?"


@pytest.fixture(scope="module")
def reranker(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nemotron-vl")
    save_tiny_nemotron_vl(folder)
    return Reranker.load(folder, device="cpu", dtype="float32")


def page(seed, width=90, height=60):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_paths_bytes_data_urls_and_mappings_are_documents(reranker, tmp_path):
    import base64

    buffer = io.BytesIO()
    page(0).save(buffer, "PNG")
    (tmp_path / "page.png").write_bytes(buffer.getvalue())
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    given = [tmp_path / "page.png", str(tmp_path / "page.png"), buffer.getvalue(), url, page(0)]
    ranking = reranker.rank(QUERY, [{"image": image} for image in given] + [Document(image=page(1)), "a text"])
    print(ranking)
    shown = {hit.index: hit_label(hit) for hit in ranking}
    assert shown[0].endswith("page.png") and shown[2] == shown[3] == shown[4] == "[image]" and shown[6] == "a text"
    scores = {hit.index: hit.score for hit in ranking}
    assert len({scores[i] for i in range(4)}) == 1, "equal files score the same to the last bit"
    assert scores[4] == pytest.approx(scores[0], abs=1e-5) and abs(scores[5] - scores[0]) > 1e-3
    assert ranking.score_type == "logit" and reranker.reads_images


def test_a_page_under_many_queries_is_encoded_once(reranker, monkeypatch):
    from transformers import SiglipVisionModel

    seen, whole = [], SiglipVisionModel.forward

    def counted(self, pixel_values, **kwargs):
        seen.append(len(pixel_values))
        return whole(self, pixel_values=pixel_values, **kwargs)

    monkeypatch.setattr(SiglipVisionModel, "forward", counted)
    pages = [Document(image=page(seed)) for seed in range(10, 14)]
    for query in ("one", "two", "three"):
        reranker.rank(query, pages)
    print("tiles by batch", seen)
    assert sum(seen) == 4 * 7, "six tiles and a thumbnail of four pages, once"


def test_a_document_that_is_broken_is_named(reranker):
    with pytest.raises(InputError, match=r"document 1 \(p7\).*not an image"):
        reranker.rank(QUERY, ["text", Document(image=b"junk", id="p7")])
    with pytest.raises(InputError, match=r"the document of pair 0.*URLs are not fetched"):
        reranker.score([(QUERY, Document(image="https://example.org/a.png"))])


def test_overflow_of_pages(reranker, tmp_path):
    short = Reranker.load(reranker.checkpoint.folder, device="cpu", dtype="float32", max_length=60)
    wordy = Document("sales rose. " * 60, image=page(0))
    [hit] = short.rank(QUERY, [wordy])
    assert hit.truncated
    [hit] = short.rank(QUERY, [wordy], on_overflow="fewer_tiles")
    assert hit.truncated
    [fits] = short.rank(QUERY, [Document("sales rose", image=page(0))], on_overflow="fewer_tiles")
    assert not fits.truncated
    with pytest.raises(InputError, match="document 0 does not fit"):
        short.rank(QUERY, [wordy], on_overflow="error")
    many = Reranker.load(reranker.checkpoint.folder, device="cpu", dtype="float32", max_length=90)
    [hit] = many.rank(QUERY, [wordy], on_overflow="chunk")
    start, end = hit.span
    window = Document(wordy.text[start:end], image=page(0))
    assert not hit.truncated and hit.score == pytest.approx(float(many.score([(QUERY, window)])[0]), abs=1e-5)


def test_tiles_can_be_chosen(reranker):
    one = Reranker.load(reranker.checkpoint.folder, device="cpu", dtype="float32", max_input_tiles=1)
    [encoded] = one._encoder.encode([(QUERY, Document(image=page(0)))]).images
    assert encoded.num_tiles == 1
    for wrong in (0, True, 2.5):
        with pytest.raises(InputError, match="max_input_tiles must be"):
            Reranker.load(reranker.checkpoint.folder, max_input_tiles=wrong)


def test_limits_and_tiles_of_the_checkpoint_can_be_stated(tmp_path):
    import json

    save_tiny_nemotron_vl(tmp_path)
    published = Reranker.load(tmp_path, device="cpu").checkpoint.visual
    assert (published.limits.text, published.limits.image, published.limits.image_text) == (8192, 2048, 10240)
    assert published.sizing.max_tiles == 6 and published.sizing.use_thumbnail
    vision = {"max_input_tiles": 2, "use_thumbnail": False, "max_length_image": 512, "max_length_image_text": 1024}
    (tmp_path / "crossrank.json").write_text(json.dumps({"vision": vision}))
    stated = Reranker.load(tmp_path, device="cpu").checkpoint.visual
    assert (stated.limits.image, stated.limits.image_text) == (512, 1024)
    assert stated.sizing.max_tiles == 2 and not stated.sizing.use_thumbnail
    saved = Reranker.load(tmp_path, device="cpu").save(tmp_path / "saved")
    assert Reranker.load(saved, device="cpu").checkpoint.visual == stated


def test_a_text_model_names_models_that_read_images(tiny_checkpoint):
    text_model = Reranker.load(tiny_checkpoint("bert"), backend="torch", device="cpu")
    checkpoint = r"llama_nemotron_vl \(nvidia/llama-nemotron-rerank-vl-1b-v2\)"
    with pytest.raises(InputError, match=r"document 0 is an image without text.*" + checkpoint) as problem:
        text_model.rank(QUERY, [Document(image=page(0))])
    print(problem.value)
    with pytest.raises(InputError, match="for models that read images"):
        text_model.rank(QUERY, ["text"], on_overflow="fewer_tiles")
    with pytest.raises(InputError, match="does not cut images into tiles"):
        Reranker.load(tiny_checkpoint("bert"), max_input_tiles=2)
