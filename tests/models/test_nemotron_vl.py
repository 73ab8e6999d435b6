import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from plain_vision import PlainPageReranker, plain_pixel_values, plain_shuffle, plain_tiles
from safetensors.torch import load_file, save_file

from crossrank import Document, Reranker
from crossrank.encoding.images import ImageSource
from crossrank.encoding.tiles import Tiling
from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.checkpoint import open_checkpoint
from crossrank.models.nemotron_vl import load_nemotron_vl, nemotron_vl_tensors, normalise_pixels, pixel_shuffle
from tiny_vision import save_tiny_nemotron_vl

QUERY = "How did sales develop?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nemotron-vl")
    save_tiny_nemotron_vl(folder)
    return folder


@pytest.fixture(scope="module")
def changed(folder, tmp_path_factory):
    """A copy with other values in `config.json`, or other tensors."""

    def copy(tensors=None, **values):
        copied = tmp_path_factory.mktemp("changed") / "model"
        shutil.copytree(folder, copied)
        config = json.loads((copied / "config.json").read_text()) | values
        (copied / "config.json").write_text(json.dumps(config))
        if tensors is not None:
            save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
        return copied

    return copy


def noise(width, height, mode="RGB", seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    return image.quantize(16) if mode == "P" else image.convert(mode)


SHOWN = [
    noise(40, 40),
    noise(200, 64),
    noise(64, 200, "L"),
    noise(130, 90, "P"),
    noise(31, 33, "RGBA"),
    noise(90, 120, "CMYK"),
    noise(70, 70, "1"),
]


@pytest.mark.parametrize("image", SHOWN, ids=lambda image: f"{image.mode}-{image.size[0]}x{image.size[1]}")
def test_page_scores_are_those_of_the_published_algorithm(folder, image):
    reference = PlainPageReranker(folder)
    documents = [Document(image=image), Document("Revenue by quarter.", image=image), Document("Revenue by quarter.")]
    expected = [
        reference.score(QUERY, image=image),
        reference.score(QUERY, "Revenue by quarter.", image),
        reference.score(QUERY, "Revenue by quarter."),
    ]
    scores = Reranker.load(folder, device="cpu", dtype="float32").score([(QUERY, document) for document in documents])
    print(image.mode, image.size, scores, expected)
    np.testing.assert_allclose(scores, expected, atol=2e-5)
    assert np.ptp(scores) > 0.05, "the pixels reach the score"


def test_mixed_batches_give_the_scores_of_one_by_one(folder):
    documents = [Document(image=image) for image in SHOWN]
    documents += [Document("Table 3: results", image=image) for image in SHOWN[:3]]
    documents += [Document("Revenue by quarter."), Document("<img><IMG_CONTEXT></img> <image>"), Document("")]
    reranker = Reranker.load(folder, device="cpu", dtype="float32", budget_tokens=400)
    alone = np.concatenate([reranker.score([(QUERY, document)]) for document in documents])
    fresh = Reranker.load(folder, device="cpu", dtype="float32", budget_tokens=400)
    np.testing.assert_allclose(fresh.score([(QUERY, document) for document in documents]), alone, atol=2e-5)
    ranking = fresh.rank(QUERY, documents)
    assert [hit.index for hit in ranking] == list(np.argsort(-alone, kind="stable"))
    assert ranking[0].document is documents[ranking[0].index]


def test_an_earlier_layer_of_the_tower_can_be_the_one_that_is_read(folder, changed):
    earlier = changed(select_layer=-2)
    scores = Reranker.load(earlier, device="cpu", dtype="float32").score([(QUERY, Document(image=SHOWN[1]))])
    np.testing.assert_allclose(scores, [PlainPageReranker(earlier).score(QUERY, image=SHOWN[1])], atol=2e-5)
    assert abs(scores[0] - PlainPageReranker(folder).score(QUERY, image=SHOWN[1])) > 0.01


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "CMYK", "1", "LA"])
def test_pixel_values_are_those_of_the_published_algorithm_to_the_bit(mode):
    image = noise(150, 77, mode) if mode != "LA" else noise(150, 77).convert("LA")
    tiling = Tiling(side=32, tokens_per_tile=4, max_tiles=6, use_thumbnail=True)
    tiled = next(tiling.sizes(ImageSource(image, where="document 0")))
    pixels = normalise_pixels(tiled.pixels())
    assert pixels.dtype == torch.bfloat16
    assert torch.equal(pixels, plain_pixel_values(plain_tiles(image, 6, 32)))


def test_a_palette_image_is_resized_before_it_becomes_rgb():
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1, 1, 0])
    tiled = next(Tiling(32, 4, 1, use_thumbnail=True).sizes(ImageSource(image, where="document 0")))
    colours = {tuple(colour) for colour in tiled.pixels().reshape(-1, 3).tolist()}
    assert colours == {(255, 0, 0), (0, 0, 255)}, "no mixed colours"


def test_patches_are_merged_two_by_two():
    hidden = torch.arange(2 * 16 * 3).float().reshape(2, 16, 3)
    assert torch.equal(pixel_shuffle(hidden), plain_shuffle(hidden))


def test_the_projector_and_the_tower_are_those_of_the_file(folder):
    model = load_nemotron_vl(open_checkpoint(folder), dtype=torch.float32)
    tiling = Tiling(32, 4, 6, use_thumbnail=True)
    images = [next(tiling.sizes(ImageSource(image, where="document 0"))) for image in SHOWN]
    with torch.inference_mode():
        features = model.encode_images(images)
        for shown, feature in zip(SHOWN, features, strict=True):
            torch.testing.assert_close(feature, PlainPageReranker(folder).features(shown), atol=1e-5, rtol=1e-5)
    assert len(model.cache) == len(SHOWN)


def test_gradients_reach_every_part(folder):
    model = load_nemotron_vl(open_checkpoint(folder), dtype=torch.float32)
    reranker = Reranker.load(folder, device="cpu", dtype="float32")
    encoded = reranker._encoder.encode([(QUERY, Document("x", image=SHOWN[0]))])
    ids = torch.from_numpy(encoded.input_ids[0]).long()[None]
    model(ids, torch.ones_like(ids), images=encoded.images).sum().backward()
    for part in (model.language_model.layers[0], model.vision_model.encoder.layers[0], model.mlp1, model.score):
        assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in part.parameters())
    assert len(model.cache) == 0, "what is trained is not kept"


def test_saving_gives_the_same_bits_and_the_same_scores(tmp_path):
    save_tiny_nemotron_vl(tmp_path / "published", dtype="bfloat16")
    reranker = Reranker.load(tmp_path / "published", device="cpu", dtype="float32")
    saved = reranker.save(tmp_path / "saved")
    before, after = (load_file(path / "model.safetensors") for path in (tmp_path / "published", saved))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) and before[name].dtype == after[name].dtype for name in before)
    assert after["score.weight"].dtype == torch.float32
    assert "model.vision_model.vision_model.head.probe" in after, "what scoring does not use is kept"
    config = json.loads((saved / "config.json").read_text())
    assert config["auto_map"]["AutoConfig"] == "modeling_llama_nemotron_vl.LlamaNemotronVLConfig", "ours, not theirs"
    pairs = [(QUERY, Document(image=SHOWN[1])), (QUERY, "Revenue")]
    again = Reranker.load(saved, device="cpu", dtype="float32")
    np.testing.assert_array_equal(again.score(pairs), reranker.score(pairs))


def test_the_head_is_float32_in_a_bfloat16_model(folder):
    model = load_nemotron_vl(open_checkpoint(folder), dtype=torch.bfloat16)
    assert model.score.weight.dtype == torch.float32 and model.mlp1[1].weight.dtype == torch.bfloat16
    reranker = Reranker.load(folder, device="cpu", dtype="bfloat16")
    exact = Reranker.load(folder, device="cpu", dtype="float32")
    pairs = [(QUERY, Document(image=image)) for image in SHOWN]
    np.testing.assert_allclose(reranker.score(pairs), exact.score(pairs), atol=0.4)


def test_names_of_the_file_come_back(folder):
    model = load_nemotron_vl(open_checkpoint(folder), dtype=torch.float32)
    assert nemotron_vl_tensors(model).keys() == load_file(folder / "model.safetensors").keys()


def test_a_file_without_the_unused_pooler_loads(folder, changed):
    tensors = {n: t for n, t in load_file(folder / "model.safetensors").items() if ".vision_model.head." not in n}
    pairs = [(QUERY, Document(image=SHOWN[0]))]
    scores = [Reranker.load(path, device="cpu", dtype="float32").score(pairs) for path in (folder, changed(tensors))]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("score.weight", "score.weight is missing"),
        ("model.mlp1.3.bias", "mlp1 lacks weights"),
        ("model.vision_model.vision_model.post_layernorm.weight", "are missing"),
        ("model.language_model.layers.1.mlp.up_proj.weight", "are missing"),
    ],
)
def test_missing_weights_are_named(folder, changed, name, message):
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    with pytest.raises(CheckpointError, match=message):
        Reranker.load(changed(tensors), device="cpu")


def test_what_the_published_algorithm_does_not_cover_is_refused(changed, folder):
    with pytest.raises(UnsupportedModel, match="ps_version"):
        open_checkpoint(changed(ps_version="v1"))
    with pytest.raises(CheckpointError, match="downsample_ratio"):
        open_checkpoint(changed(downsample_ratio=0.25))
    with pytest.raises(CheckpointError, match="vision_config"):
        open_checkpoint(changed(vision_config=None))
    with pytest.raises(UnsupportedModel, match="bidirectional"):
        Reranker.load(changed(bidirectional_attention=False), device="cpu")
    with pytest.raises(CheckpointError, match="tokenizer has 324"):
        Reranker.load(changed(img_context_token_id=128258), device="cpu")
    more = load_file(folder / "model.safetensors") | {"model.extra.weight": torch.ones(1)}
    with pytest.raises(CheckpointError, match=r"model\.extra\.weight"):
        Reranker.load(changed(more), device="cpu")
