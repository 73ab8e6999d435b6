import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from crossrank import Document, Reranker
from crossrank.errors import CheckpointError, InputError
from crossrank.models.qwen_vl import JINA_M0_SHIFT, PatchSettings, to_patches
from tiny_vision import save_tiny_monoqwen, save_tiny_qwen_vl

QUERY = "how much protein?"
# Families by the folder of their tiny checkpoint.
FAMILIES = {"jina": "jina_reranker_m0", "mono": "monoqwen2_vl", "qwen3": "qwen3_vl_reranker"}
CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
VISION = "<|vision_start|>{}<|vision_end|>"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("qwen-vl")
    for kind in ("jina", "qwen2", "qwen3"):
        save_tiny_qwen_vl(kind, root / kind)
    save_tiny_monoqwen(root / "mono", root / "qwen2")
    return root


@pytest.fixture(scope="module")
def rerankers(folders):
    return {
        kind: Reranker.load(folders / kind, family=family, device="cpu", dtype="float32")
        for kind, family in FAMILIES.items()
    }


def noise(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def processed(image, patch, mean, std, pixels):
    processor = Qwen2VLImageProcessorPil(
        patch_size=patch, image_mean=mean, image_std=std, min_pixels=pixels[0], max_pixels=pixels[1]
    )
    return processor(images=[image], return_tensors="pt")


def last_state(model, tokenizer, prompt, image_inputs):
    """The last hidden state of one sequence, by the whole model of transformers."""
    inputs = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    ids = inputs["input_ids"]
    if image_inputs is not None:
        slot = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        inputs |= dict(image_inputs) | {"mm_token_type_ids": (ids == slot).int()}
    with torch.no_grad():
        return model.model(**inputs).last_hidden_state[0, -1], ids[0]


def pads(image_inputs):
    return "<|image_pad|>" * (int(image_inputs["image_grid_thw"].prod()) // 4)


@pytest.mark.parametrize("image", [noise(60, 60), noise(200, 64), None], ids=["square", "wide", "text"])
def test_jina_m0_is_the_published_algorithm(folders, rerankers, image):
    folder = folders / "jina"
    tensors = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text()) | {"architectures": None}
    config.pop("auto_map")
    model = Qwen2VLForConditionalGeneration(Qwen2VLConfig.from_dict(config)).eval()
    body = {}
    for name, tensor in tensors.items():
        if name.startswith("visual."):
            body[name] = tensor
        elif name.startswith("model."):
            body["language_model." + name.removeprefix("model.")] = tensor
    model.model.load_state_dict(body)
    shown = None if image is None else processed(image, 14, *CLIP, (3136, 602112))
    document = "the document" if image is None else VISION.format(pads(shown))
    prompt = f"**Document**:\n{document}\n**Query**:\n{QUERY}"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"] + [100]
    inputs = {"input_ids": torch.tensor([ids])}
    if shown is not None:
        slot = tokenizer.convert_tokens_to_ids("<|image_pad|>")
        inputs |= dict(shown) | {"mm_token_type_ids": (inputs["input_ids"] == slot).int()}
    with torch.no_grad():
        last = model.model(**inputs).last_hidden_state[0, -1]
    hidden = torch.relu(tensors["score.0.weight"] @ last + tensors["score.0.bias"])
    expected = float(tensors["score.2.weight"][0] @ hidden + tensors["score.2.bias"]) - 2.65
    asked = Document(image=image) if image is not None else "the document"
    [encoded] = rerankers["jina"]._encoder.encode([(QUERY, asked)]).input_ids
    print(expected)
    assert encoded.tolist() == ids and JINA_M0_SHIFT == 2.65
    np.testing.assert_allclose(rerankers["jina"].score([(QUERY, asked)]), [expected], atol=2e-4)
    [hit] = rerankers["jina"].rank(QUERY, [asked], score_type="probability")
    assert hit.score == pytest.approx(1 / (1 + np.exp(-expected)), rel=1e-3)


def test_monoqwen_is_the_published_algorithm(folders, rerankers):
    tokenizer = AutoTokenizer.from_pretrained(folders / "qwen2")
    model = Qwen2VLForConditionalGeneration.from_pretrained(folders / "qwen2").eval()
    adapter = load_file(folders / "mono" / "adapter_model.safetensors")
    with torch.no_grad():
        for name in adapter:
            if name.endswith("lora_A.weight"):
                path = name.removeprefix("base_model.model.model.").removesuffix(".lora_A.weight")
                linear = model.model.language_model.get_submodule(path)
                linear.weight += adapter[name.replace("lora_A", "lora_B")] @ adapter[name]  # alpha / r is 1
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("True", "False"))
    for image in (noise(60, 60), noise(100, 300)):
        shown = processed(image, 14, *CLIP, (56 * 56, 28 * 28 * 1280))
        prompt = (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
            f"{VISION.format(pads(shown))}Assert the relevance of the previous image document to the following query, "
            f"answer True or False. The query is: {QUERY}<|im_end|>\n<|im_start|>assistant\n"
        )
        last, ids = last_state(model, tokenizer, prompt, shown)
        logits = model.lm_head.weight @ last
        [encoded] = rerankers["mono"]._encoder.encode([(QUERY, Document(image=image))]).input_ids
        assert encoded.tolist() == ids.tolist()
        score = rerankers["mono"].score([(QUERY, Document(image=image))])
        np.testing.assert_allclose(score, [float(logits[yes] - logits[no])], atol=2e-4)
        [hit] = rerankers["mono"].rank(QUERY, [Document(image=image)], score_type="probability")
        softmax = torch.softmax(torch.stack([logits[no], logits[yes]]), 0)[1]
        assert hit.score == pytest.approx(float(softmax), rel=1e-3)


@pytest.mark.parametrize("text", ["", "the document"])
@pytest.mark.parametrize("image", [noise(70, 70), noise(200, 96), None], ids=["square", "wide", "none"])
def test_qwen3_vl_is_the_published_algorithm(folders, rerankers, image, text):
    tokenizer = AutoTokenizer.from_pretrained(folders / "qwen3")
    model = Qwen3VLForConditionalGeneration.from_pretrained(folders / "qwen3").eval()
    shown = None
    if image is not None:
        shown = processed(image, 16, [0.5] * 3, [0.5] * 3, (4096, 1843200))
    document = (VISION.format(pads(shown)) if shown is not None else "") + text or "NULL"
    prompt = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a '
        "search query, retrieve relevant candidates that answer the query.<Query>:how much protein?\n<Document>:"
        f"{document}<|im_end|>\n<|im_start|>assistant\n"
    )
    last, ids = last_state(model, tokenizer, prompt, shown)
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("yes", "no"))
    expected = float(last @ (model.lm_head.weight[yes] - model.lm_head.weight[no]))
    asked = Document(text, image=image)
    [encoded] = rerankers["qwen3"]._encoder.encode([(QUERY, asked)]).input_ids
    assert encoded.tolist() == ids.tolist()
    np.testing.assert_allclose(rerankers["qwen3"].score([(QUERY, asked)]), [expected], atol=2e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_mixed_batches_give_the_scores_of_one_by_one(rerankers, kind):
    documents = [Document(image=noise(*size)) for size in ((60, 60), (200, 64), (100, 300))]
    if kind != "mono":
        documents += [Document("hello protein"), Document("<|image_pad|> and <|video_pad|> are words")]
    alone = np.concatenate([rerankers[kind].score([(QUERY, document)]) for document in documents])
    np.testing.assert_allclose(rerankers[kind].score([(QUERY, d) for d in documents]), alone, atol=2e-4)


def test_patches_are_those_of_transformers():
    for size in ((56, 84), (28, 28)):
        image = noise(*size)
        expected = processed(image, 14, *CLIP, (1, 10**6))
        patches, grid = to_patches(np.asarray(image), PatchSettings(14, 2, 2, tuple(CLIP[0]), tuple(CLIP[1])))
        assert [1, *grid] == expected["image_grid_thw"][0].tolist()
        torch.testing.assert_close(patches, expected["pixel_values"], atol=1e-6, rtol=1e-6)


def test_what_a_family_does_not_read_is_refused(rerankers):
    both = Document("text", image=noise(60, 60))
    for kind in ("jina", "mono"):
        with pytest.raises(InputError, match=r"document of pair 1.*not both"):
            rerankers[kind].score([(QUERY, Document(image=noise(60, 60))), (QUERY, both)])
    with pytest.raises(InputError, match="reads images alone"):
        rerankers["mono"].rank(QUERY, ["a text"])
    with pytest.raises(InputError, match="one side is over 200 times"):
        rerankers["qwen3"].rank(QUERY, [Document(image=noise(900, 2))])


def test_licences_are_shown(rerankers, caplog, folders):
    assert Reranker.load(folders / "jina", device="cpu").checkpoint.family.name == "jina_reranker_m0", "by its class"
    assert rerankers["jina"].checkpoint.non_commercial and rerankers["jina"].checkpoint.licence == "CC-BY-NC-4.0"
    assert rerankers["mono"].checkpoint.licence == rerankers["qwen3"].checkpoint.licence == "Apache-2.0"
    Reranker.load(folders / "jina", family="jina_reranker_m0", device="cpu")
    assert "forbids commercial use" in caplog.text


def test_a_head_that_is_missing_is_named(folders, tmp_path):
    import shutil

    shutil.copytree(folders / "jina", tmp_path / "jina")
    tensors = load_file(folders / "jina" / "model.safetensors")
    del tensors["score.2.bias"]
    save_file(tensors, tmp_path / "jina" / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"score\.0 and score\.2"):
        Reranker.load(tmp_path / "jina", family="jina_reranker_m0", device="cpu")


def test_an_adapter_of_another_model_is_refused(folders, tmp_path):
    save_tiny_monoqwen(tmp_path / "mono", folders / "qwen2")
    tensors = load_file(tmp_path / "mono" / "adapter_model.safetensors")
    tensors.pop("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")
    save_file(tensors, tmp_path / "mono" / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="the adapter does not fit"):
        Reranker.load(tmp_path / "mono", family="monoqwen2_vl", device="cpu")


def test_an_instruction_takes_the_place_of_the_default(rerankers):
    page = Document(image=noise(70, 70))
    made = rerankers["qwen3"]._encoder.with_instruction("find charts")
    for document in (page, "a text"):
        text = made.tokenizer.decode(made.encode([(QUERY, document)]).input_ids[0], skip_special_tokens=False)
        assert "<Instruct>: find charts<Query>:how" in text and "retrieve relevant candidates" not in text
    scores = [rerankers["qwen3"].score([(QUERY, page)], instruction=words) for words in (None, "find charts")]
    assert abs(scores[0] - scores[1]).item() > 1e-4
    with pytest.raises(InputError, match="no place for an instruction"):
        rerankers["mono"].score([(QUERY, page)], instruction="find charts")
