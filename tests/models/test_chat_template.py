"""Chat templates as sentence-transformers fills them, and what of them cannot be followed."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from crossrank import Reranker
from crossrank.errors import UnsupportedModel
from crossrank.models.checkpoint import load_encoder, open_checkpoint

QUERY = "Which planet is known as the Red Planet?"
PAIRS = [
    (QUERY, "Mars, known for its reddish appearance."),
    ("capital of France", ""),
    ("{document} <|im_end|>", "{query}"),
]
LISTS = "".join(
    f"{{% set {name} = messages | selectattr('role', 'eq', '{role}') | map(attribute='content') | list %}}"
    for name, role in (("s", "system"), ("q", "query"), ("d", "document"))
)


@pytest.mark.parametrize(
    "template",
    [
        "{{ s | join }}{{ q | first }}{{ d | first }}:",
        "{% if s %}<|im_start|>{{ s | first }}\n{% endif %}{{ q | first }}<|im_end|>{{ d | first }}<|im_end|>",
        "{{ d | first }}{{ q | first }}<|im_end|>{{ s | first | default('judge') }}<|im_end|>",
    ],
)
def test_the_instruction_stands_wherever_the_chat_template_puts_it(template, tiny_language_model, tmp_path):
    folder = shutil.copytree(tiny_language_model("logit-score"), tmp_path / "chat")
    (folder / "config_sentence_transformers.json").unlink()
    (folder / "chat_template.jinja").write_text(LISTS + template)
    encoder = load_encoder(open_checkpoint(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pair = [{"role": "query", "content": "red {query}"}, {"role": "document", "content": "Mars."}]
    for instruction in (None, "find {document}"):
        system = [{"role": "system", "content": instruction}] if instruction else []
        expected = tokenizer.apply_chat_template(system + pair, tokenize=True)["input_ids"]
        encoded = encoder.with_instruction(instruction).encode([("red {query}", "Mars.")])
        assert encoded.input_ids[0].tolist() == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ s | join | trim }}: {{ q | first | trim }}\nD: {{ d | first | trim }}\nRelevant:",
        "{{ s | join }}: {{ q | first }}\nD: {{ d | first | trim }}<|im_end|>",
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>{% endfor %}",
    ],
)
def test_a_chat_template_that_trims_texts_is_followed(template, tiny_language_model, tmp_path):
    """As Llama 3's and Gemma's own templates do."""
    from sentence_transformers import CrossEncoder

    folder = shutil.copytree(tiny_language_model("logit-score"), tmp_path / "trims")
    (folder / "chat_template.jinja").write_text(LISTS + template)
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    reranker = Reranker.load(folder, device="cpu", dtype="float32")
    pairs = [
        ("  red planet? \n", "\tMars is red.\n\n"),
        (QUERY, "   "),
        (QUERY, "Mars"),
        ("\u2003Mars", "Ve nus \u00a0"),
    ]
    np.testing.assert_allclose(reranker.score(pairs), model.predict(pairs), atol=1e-5, rtol=1e-5)
    asked = model.predict(pairs, prompt=" find planets\n")
    np.testing.assert_allclose(reranker.score(pairs, instruction=" find planets\n"), asked, atol=1e-5, rtol=1e-5)


def test_a_chat_template_that_refuses_system_messages_trims_all_the_same(tiny_language_model, tmp_path):
    """As Gemma's."""
    from sentence_transformers import CrossEncoder

    folder = shutil.copytree(tiny_language_model("logit-score"), tmp_path / "refuses")
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    refusal = "{% if s %}{{ raise_exception('no system role') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(
        LISTS + refusal + "{{ q | first | trim }}<|im_end|>{{ d | first | trim }}<|im_end|>"
    )
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32})
    reranker = Reranker.load(folder, device="cpu", dtype="float32")
    pairs = [(" red planet?\n", "\nMars is red.\n"), (QUERY, "Mars")]
    expected = model.predict(pairs, activation_fn=torch.nn.Identity())
    np.testing.assert_allclose(reranker.score(pairs), expected, atol=1e-5, rtol=1e-5)
    assert not reranker.takes_instruction


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (
            LISTS + "{{ q | first }}: {{ d | first | replace('\\n', ' ') }}",
            "the chat template changes the texts of a pair, and not only their end",
        ),
        (
            "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
            "does not show the messages of the roles 'query' and 'document'",
        ),
    ],
)
def test_a_chat_template_that_cannot_be_followed_is_an_error(template, message, tiny_language_model, tmp_path):
    folder = shutil.copytree(tiny_language_model("logit-score"), tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(UnsupportedModel, match=message):
        Reranker.load(folder, device="cpu", dtype="float32")


def test_a_decoder_whose_files_state_messages_is_prompted_by_its_chat_template(tiny_language_model, tmp_path):
    from sentence_transformers import CrossEncoder

    from tiny_language_models import CHAT_TEMPLATE

    folder = shutil.copytree(tiny_language_model("qwen3-seq-cls"), tmp_path / "chat")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    CrossEncoder(str(folder), device="cpu").save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    model = CrossEncoder(str(tmp_path / "saved"), device="cpu", model_kwargs={"dtype": torch.float32})
    reranker = Reranker.load(tmp_path / "saved", device="cpu", dtype="float32")
    assert reranker.checkpoint.uses_chat_template
    expected = model.predict(PAIRS, activation_fn=torch.nn.Identity(), batch_size=1)
    np.testing.assert_allclose(reranker.score(PAIRS), expected, atol=1e-5, rtol=1e-5)
