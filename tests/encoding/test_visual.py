import numpy as np
import pytest
from PIL import Image
from transformers import AutoTokenizer

from crossrank import Document
from crossrank.encoding.pairs import Truncation
from crossrank.encoding.tiles import Tiling
from crossrank.encoding.visual import VisualEncoder, VisualFormat, VisualLimits
from crossrank.errors import CheckpointError, InputError
from crossrank.models.families import FAMILIES
from tiny_vision import nemotron_tokenizer

QUERY = "How did sales develop?"
PAGE = Image.new("RGB", (96, 64), "white")  # 3 by 2 tiles of 32 pixels
TILING = Tiling(side=32, tokens_per_tile=4, max_tiles=6, use_thumbnail=True)


def family(name):
    return next(family for family in FAMILIES if family.name == name)


def encoder(text=200, image=100, image_text=300, slot_id=None):
    prompt = family("llama_nemotron_vl").visual
    visual = VisualFormat(prompt, VisualLimits(text, image, image_text), TILING, slot_id)
    return VisualEncoder(nemotron_tokenizer().backend_tokenizer, visual)


def slots(ids):
    return int(np.sum(ids == nemotron_tokenizer().convert_tokens_to_ids("<IMG_CONTEXT>")))


@pytest.mark.parametrize("text", ["", "Revenue rose.", "  two  spaces \n\n and 数字", "braces {query} {document}"])
@pytest.mark.parametrize("image", [None, PAGE, Image.new("L", (20, 20))])
def test_token_ids_are_those_of_the_published_string(text, image):
    encoded = encoder().encode([(QUERY, Document(text, image=image))])
    tiles = 0 if image is None else 7 if image is PAGE else 1
    before = "<img>" + "<IMG_CONTEXT>" * (4 * tiles) + "</img> " if tiles else ""
    golden = f"{before}question:How did sales develop? \n \n passage:{text}"
    print(repr(golden[-60:]))
    assert encoded.input_ids[0].tolist() == nemotron_tokenizer()(golden)["input_ids"]
    assert encoded.input_ids[0][0] == nemotron_tokenizer().bos_token_id
    assert not encoded.truncated[0] and encoded.lengths[0] == len(encoded.input_ids[0])
    assert (encoded.images[0] is None) == (image is None)


def test_image_tokens_in_a_text_are_text():
    text = "see <image> and <img><IMG_CONTEXT></img> here"
    for image in (None, PAGE):
        [ids] = encoder().encode([(f"{QUERY} <IMG_CONTEXT>", Document(text, image=image))]).input_ids
        assert slots(ids) == (0 if image is None else 28)
        words = nemotron_tokenizer().decode([token for token in ids if token != 324])
        assert "see <image> and <img><IMG_CONTEXT></img> here" in words.replace("  ", " ")
    other = encoder().encode([(QUERY, Document("the <ref> token stays special"))]).input_ids[0]
    assert nemotron_tokenizer().convert_tokens_to_ids("<ref>") in other


def test_limits_are_by_what_a_document_holds():
    long = "sales " * 400
    made = encoder(text=60, image=100, image_text=80)
    for document, limit in ((Document(long), 60), (Document(long, image=PAGE), 80)):
        encoded = made.encode([(QUERY, document)])
        assert encoded.lengths[0] == limit and encoded.truncated[0]
    [ids] = made.encode([(QUERY, Document(long, image=PAGE))]).input_ids
    assert slots(ids) == 28, "truncation cuts text alone"


def test_an_image_that_does_not_fit_is_refused_and_named():
    with pytest.raises(InputError, match=r"document 1 \(page 3\).*image tokens are never cut.*fewer_tiles"):
        encoder(image=40).encode([(QUERY, "text"), (QUERY, Document(image=PAGE, id="page 3"))])


def test_the_limit_that_an_image_does_not_fit_in_is_the_one_that_was_asked_for():
    asked = encoder(image=100).with_truncation(Truncation(max_length=30))
    with pytest.raises(InputError, match="do not fit in max_length=30 tokens"):
        asked.encode([(QUERY, Document(image=PAGE))])


def test_an_image_may_fill_the_limit_to_the_last_token():
    [ids] = encoder().encode([(QUERY, Document(image=PAGE))]).input_ids
    assert encoder(image=len(ids)).encode([(QUERY, Document(image=PAGE))]).input_ids[0].tolist() == ids.tolist()
    with pytest.raises(InputError, match="do not fit"):
        encoder(image=len(ids) - 1).encode([(QUERY, Document(image=PAGE))])


def test_fewer_tiles_are_chosen_until_all_fits():
    [whole] = encoder().encode([(QUERY, Document("Revenue rose.", image=PAGE))]).input_ids
    chosen = []
    for limit in range(len(whole), len(whole) - 28, -4):
        encoded = encoder(image_text=limit).with_fewer_tiles().encode([(QUERY, Document("Revenue rose.", image=PAGE))])
        chosen.append(encoded.images[0].grid)
        assert encoded.lengths[0] <= limit and slots(encoded.input_ids[0]) == encoded.images[0].num_tokens
        assert not encoded.truncated[0]
    print(chosen)
    assert chosen[0] == (3, 2) and chosen[-1] == (1, 1)
    assert [c * r for c, r in chosen] == sorted((c * r for c, r in chosen), reverse=True)
    long = encoder(image_text=60).with_fewer_tiles().encode([(QUERY, Document("sales " * 400, image=PAGE))])
    assert long.truncated[0] and long.lengths[0] == 60, "what even one tile leaves no room for is cut"


def test_the_room_for_text_is_what_the_image_leaves():
    made = encoder(text=200, image_text=200)
    alone, beside = made.document_room(QUERY), made.document_room(QUERY, Document("x", image=PAGE))
    lengths = made.encode([(QUERY, "x"), (QUERY, Document("x", image=PAGE))]).lengths
    assert alone - beside == lengths[1] - lengths[0] >= 28 + 2


def test_the_ids_come_from_the_checkpoint():
    assert encoder(slot_id=324).slot_id == 324
    with pytest.raises(CheckpointError, match=r"128258 .* the tokenizer has 324"):
        encoder(slot_id=128258)
    with pytest.raises(CheckpointError, match=r"no token <\|vision_start\|>"):
        visual = VisualFormat(family("qwen3_vl_reranker").visual, VisualLimits(9, 9, 9), TILING)
        VisualEncoder(nemotron_tokenizer().backend_tokenizer, visual)


def rendered(name, kind, query="Q", document="D"):
    """A template as one string, with the image as its slot token alone."""
    visual = family(name).visual
    template = visual.text if kind == "text" else visual.image
    values = {"{query}": query, "{document}": document, "{instruction}": template.render_instruction(None)}
    values |= {"{image}": "".join(visual.image_tokens), "{ending}": f"[{','.join(map(str, visual.ending))}]"}
    text = "".join(template.pieces)
    for slot, value in values.items():
        text = text.replace(slot, value)
    return text


JUDGE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a search '
    "query, retrieve relevant candidates that answer the query.<Query>:Q\n<Document>:"
)
PAD = "<|vision_start|><|image_pad|><|vision_end|>"
GOLDEN = {
    ("llama_nemotron_vl", "text", "D"): "question:Q \n \n passage:D",
    ("llama_nemotron_vl", "image", "D"): "<img><IMG_CONTEXT></img> question:Q \n \n passage:D",
    ("jina_reranker_m0", "text", "D"): "**Document**:\nD\n**Query**:\nQ[100]",
    ("jina_reranker_m0", "image", ""): f"**Document**:\n{PAD}\n**Query**:\nQ[100]",
    ("monoqwen2_vl", "image", ""): (
        f"<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n{PAD}Assert the relevance of "
        "the previous image document to the following query, answer True or False. The query is: Q<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
    ("qwen3_vl_reranker", "text", "D"): JUDGE + "D<|im_end|>\n<|im_start|>assistant\n",
    ("qwen3_vl_reranker", "image", "D"): JUDGE + PAD + "D<|im_end|>\n<|im_start|>assistant\n",
}


@pytest.mark.parametrize(("name", "kind", "document"), GOLDEN)
def test_the_templates_are_those_of_the_published_code(name, kind, document):
    print(repr(rendered(name, kind, document=document)))
    assert rendered(name, kind, document=document) == GOLDEN[name, kind, document]


def test_jina_m0_caps_query_and_document_apart(tmp_path):
    from crossrank.models.checkpoint import load_encoder, open_checkpoint
    from tiny_vision import save_tiny_qwen_vl

    save_tiny_qwen_vl("jina", tmp_path)
    made = load_encoder(open_checkpoint(tmp_path, family="jina_reranker_m0", max_length=1200))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    encoded = made.encode([("protein " * 2000, "passage " * 2000)])
    assert encoded.truncated[0] and encoded.lengths[0] <= 1200 and encoded.input_ids[0][-1] == 100
    query = tokenizer.decode(encoded.input_ids[0][:-1]).split("**Query**:\n")[1]
    assert len(tokenizer(query, add_special_tokens=False)["input_ids"]) <= 512
