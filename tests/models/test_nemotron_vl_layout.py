import filecmp
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder
from transformers import AutoModelForSequenceClassification, AutoProcessor

from crossrank import Document, Reranker
from tiny_vision import save_tiny_nemotron_vl

QUERY = "How did sales develop?"


def noise(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image.quantize(16) if mode == "P" else image.convert(mode)


def load(folder, **options):
    return Reranker.load(folder, device="cpu", dtype="float32", **options)


def saved(folder, *, settings=None, **changes):
    """Return a reranker that was saved again, and its folder."""
    save_tiny_nemotron_vl(folder / "published", **changes)
    if settings:
        (folder / "published" / "crossrank.json").write_text(json.dumps(settings))
    load(folder / "published").save(folder / "saved")
    return load(folder / "saved"), folder / "saved"


def cross_encoder(folder, **options):
    return CrossEncoder(str(folder), device="cpu", trust_remote_code=True, model_kwargs={"dtype": "float32"}, **options)


@pytest.fixture
def documents(tmp_path):
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    noise(90, 60, seed=3).save(turned, exif=exif)
    deep = Image.fromarray(np.random.default_rng(4).integers(0, 65536, (50, 70), dtype=np.uint16))
    return [
        Document("Revenue by quarter, in millions."),
        Document(image=noise(40, 40)),
        Document("Table 3 <image> and <IMG_CONTEXT>", image=noise(200, 64)),
        Document("The highest point of a mountain. " * 20),
        Document("The highest point of a mountain. " * 20, image=noise(64, 200, "L")),
        Document(image=noise(130, 90, "P")),
        Document(image=noise(70, 70, "CMYK")),
        Document(image=str(turned)),
        Document(image=deep),
        Document("and <image> here"),
    ]


def as_input(document):
    if document.image is None:
        return document.text
    return {"image": document.image, "text": document.text} if document.text else document.image


CASES = {
    "as published": {},
    "other shapes": {
        "settings": {"max_length": 60, "vision": {"max_input_tiles": 3, "use_thumbnail": False}},
        "pooling": "last", "select_layer": -2,
    },
    "short": {"settings": {"max_length": 40, "vision": {"max_length_image_text": 80}}, "pooling": "cls"},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_sentence_transformers_scores_the_same(tmp_path, documents, case):
    reranker, folder = saved(tmp_path, **CASES[case])
    model = cross_encoder(folder)
    pairs = [(QUERY, document) for document in documents]
    expected = reranker.score(pairs)
    inputs = [(QUERY, as_input(document)) for document in documents]
    print(case, expected)
    np.testing.assert_allclose(model.predict(inputs), expected, atol=2e-5, rtol=5e-6)
    np.testing.assert_allclose([model.predict([pair])[0] for pair in inputs], expected, atol=2e-5, rtol=5e-6)
    np.testing.assert_allclose(model.predict(inputs[:1] + inputs[3:4]), expected[[0, 3]], atol=2e-5, rtol=5e-6)
    assert len(set(np.round(expected, 4))) == len(documents), "each of them shows"


def test_another_prompt_is_saved_too(tmp_path):
    save_tiny_nemotron_vl(tmp_path / "published", prompt_template=None)
    (tmp_path / "published" / "processor_config.json").unlink()
    reranker = load(load(tmp_path / "published").save(tmp_path / "saved"))
    pairs = [(QUERY, "Revenue"), (QUERY, noise(40, 80))]
    expected = reranker.score([(QUERY, "Revenue"), (QUERY, Document(image=pairs[1][1]))])
    np.testing.assert_allclose(cross_encoder(tmp_path / "saved").predict(pairs), expected, atol=2e-5, rtol=5e-6)


def test_transformers_with_remote_code_gives_the_same_logits(tmp_path):
    reranker, folder = saved(tmp_path)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True, dtype="float32").eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    page = noise(90, 64)
    messages = [
        {"role": "query", "content": QUERY},
        {"role": "document", "content": [{"type": "image", "image": page}, {"type": "text", "text": "Table 3"}]},
    ]
    assert processor.apply_chat_template(messages, tokenize=False) == (
        f"<image> question:{QUERY} \n \n passage:Table 3"
    )
    with torch.inference_mode():
        logits = model(**processor.apply_chat_template([messages], tokenize=True)).logits
    assert logits.shape == (1, 1) and logits.dtype == torch.float32
    expected = reranker.score([(QUERY, Document("Table 3", image=page))])
    np.testing.assert_allclose(logits[0].numpy(), expected, atol=2e-5, rtol=5e-6)


def test_in_bfloat16_the_head_stays_float32(tmp_path):
    save_tiny_nemotron_vl(tmp_path / "published", dtype="bfloat16")
    load(tmp_path / "published").save(tmp_path / "saved")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", trust_remote_code=True)
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    assert model.score.weight.dtype == torch.float32 and torch.equal(model.score.weight, tensors["score.weight"])
    assert model.model.mlp1[1].weight.dtype == torch.bfloat16
    own = model.model.vision_model.encoder.layers[0].mlp.fc1.weight
    name = "model.vision_model.vision_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(own, tensors[name]), "the keys of the published file reach the tower"


def test_without_the_unused_pooler_nothing_is_made_up(tmp_path):
    save_tiny_nemotron_vl(tmp_path / "published")
    path = tmp_path / "published" / "model.safetensors"
    save_file({n: t for n, t in load_file(path).items() if ".vision_model.head." not in n}, path)
    folder = load(tmp_path / "published").save(tmp_path / "saved")
    _, report = AutoModelForSequenceClassification.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    assert not report["missing_keys"] and not report["unexpected_keys"]


def test_saving_twice_gives_the_same_files(tmp_path):
    _, first = saved(tmp_path)
    second = load(first).save(tmp_path / "second")
    names = {path.name for path in first.iterdir()}
    assert names == {path.name for path in second.iterdir()}
    for name in names:
        assert filecmp.cmp(first / name, second / name, shallow=False), name


def test_what_cannot_be_read_is_refused(tmp_path):
    _, folder = saved(tmp_path, settings={"vision": {"max_length_image": 20}})
    model = cross_encoder(folder)
    with pytest.raises(ValueError, match="only a text is ever cut"):
        model.predict([(QUERY, noise(200, 64))])
    with pytest.raises(ValueError, match="a query is a text"):
        model.predict([(noise(40, 40), "Revenue")])
    with pytest.raises(ValueError, match="trust_remote_code"):
        CrossEncoder(str(folder), device="cpu")
