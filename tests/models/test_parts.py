"""A SigLIP tower and a Llama joined: what stays as it was, what is fresh, and what is refused."""

import json

import pytest
import torch
from safetensors.torch import load_file

from crossrank import Document, Reranker
from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.parts import join_parts
from tiny_decoders import save_tiny_backbone
from tiny_vision import SIDE, save_tiny_nemotron_vl

VISION = {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """As Llama 3.2 is published: a causal language model in bfloat16, whose tokenizer knows no images."""
    folder = tmp_path_factory.mktemp("parts") / "llama"
    save_tiny_backbone(folder, "llama", dtype="bfloat16")
    return folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """As google/siglip2-*-patch16-* are published: both towers, with the pooler."""
    from transformers import SiglipConfig, SiglipModel

    torch.manual_seed(0)
    vision = VISION | {"image_size": SIDE, "patch_size": 8}
    text = {
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "vocab_size": 99,
    }
    folder = tmp_path_factory.mktemp("parts") / "siglip"
    SiglipModel(SiglipConfig(vision_config=vision, text_config=text)).save_pretrained(folder)
    return folder


def test_the_towers_keep_their_bits_and_the_rest_is_drawn_by_the_seed(llama, siglip, tmp_path):
    for name, seed in (("a", 1), ("same", 1), ("other", 2)):
        join_parts(tmp_path / name, language=llama, vision=siglip, seed=seed)
    a, same, other = (load_file(tmp_path / name / "model.safetensors") for name in ("a", "same", "other"))
    assert all(torch.equal(tensor, same[name]) for name, tensor in a.items())
    changed = {name for name, tensor in a.items() if not torch.equal(tensor, other[name])}
    assert changed == {"score.weight", *(f"model.mlp1.{i}.{kind}" for i in (1, 3) for kind in ("weight", "bias"))}

    language, vision = load_file(llama / "model.safetensors"), load_file(siglip / "model.safetensors")
    table = "model.embed_tokens.weight"
    joined = a["model.language_model.embed_tokens.weight"]
    config = json.loads((tmp_path / "a/config.json").read_text())
    slot_id = config["img_context_token_id"]
    assert torch.equal(joined[: slot_id - 1], language[table][: slot_id - 1])
    torch.testing.assert_close(joined[slot_id].float(), language[table].float().mean(0), atol=1e-2, rtol=1e-2)
    for name, tensor in language.items():
        if name.startswith("model.layers"):
            assert torch.equal(tensor, a[name.replace("model.", "model.language_model.", 1)])
    kept = {name for name in vision if name.startswith("vision_model.") and ".head." not in name}
    assert {name for name in a if "vision_model" in name} == {f"model.vision_model.{name}" for name in kept}
    assert all(torch.equal(vision[name], a[f"model.vision_model.{name}"]) for name in kept)


def test_the_joined_model_has_the_published_layout(llama, siglip, tmp_path):
    folder = join_parts(tmp_path / "joined", language=llama, vision=siglip)
    save_tiny_nemotron_vl(tmp_path / "published")
    published, config = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("published", "joined"))
    kept = published.keys() - {"auto_map", "torch_dtype"}
    assert kept <= config.keys()
    same = kept - {"vision_config", "llm_config", "img_context_token_id", "temperature"}
    assert {key: config[key] for key in same} == {key: published[key] for key in same}
    assert config["llm_config"]["architectures"] == ["LlamaBidirectionalModel"]

    import PIL.Image

    page = Document("beside", image=PIL.Image.new("RGB", (70, 40), "red"))
    with pytest.raises(CheckpointError, match="train it"):
        Reranker.load(folder).score([("q", page)])
    scores = Reranker.load(folder, allow_untrained=True).score([("q", page), ("q", "text")])
    assert scores[0] != scores[1]


def test_the_tower_alone(siglip, llama, tmp_path):
    from transformers import SiglipVisionModel

    SiglipVisionModel.from_pretrained(siglip).save_pretrained(tmp_path / "tower")
    for name, vision in (("whole", siglip), ("alone", tmp_path / "tower")):
        join_parts(tmp_path / name, language=llama, vision=vision)
    whole, alone = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "alone"))
    assert whole.keys() == alone.keys() and all(torch.equal(tensor, alone[name]) for name, tensor in whole.items())


@pytest.mark.parametrize(
    ("language", "vision", "changes", "error", "problem"),
    [
        ({"model_type": "qwen3"}, {}, {}, UnsupportedModel, "qwen3 model cannot be joined with a vision tower"),
        ({}, {"model_type": "siglip2"}, {}, UnsupportedModel, "not naflex"),
        ({}, {"patch_size": 32}, {}, CheckpointError, "tiles of 32 pixels in patches of 32 cannot be merged"),
        ({}, {}, {"pooling": "max"}, InputError, "pooling must be one of"),
    ],
)
def test_what_cannot_be_joined(llama, siglip, tmp_path, language, vision, changes, error, problem):
    from transformers import SiglipVisionConfig, SiglipVisionModel

    if language:
        llama = tmp_path / "qwen3"
        save_tiny_backbone(llama, "qwen3", dtype="float32")
    if vision.get("model_type"):
        siglip = tmp_path / "siglip2"
        siglip.mkdir()
        (siglip / "config.json").write_text(json.dumps(vision))
    elif vision:
        SiglipVisionModel(SiglipVisionConfig(**VISION | {"image_size": 32} | vision)).save_pretrained(tmp_path / "v")
        siglip = tmp_path / "v"
    with pytest.raises(error, match=problem):
        join_parts(tmp_path / "joined", language=llama, vision=siglip, **changes)
    assert not (tmp_path / "joined").exists()
