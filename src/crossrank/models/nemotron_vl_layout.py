"""Completing a saved llama_nemotron_vl_rerank folder for readers that run Python code of a checkpoint.

    config.json, model*.safetensors     the published layout, which crossrank reads without any code
    modeling_llama_nemotron_vl.py, llama_bidirectional_model.py
                                        the classes that its `auto_map` names, for transformers with remote code
    processing_llama_nemotron_vl.py, processor_config.json, chat_template.jinja
                                        the same prompt, tiles and limits
    modules.json, sentence_bert_config.json, config_sentence_transformers.json
                                        the whole as a CrossEncoder of sentence-transformers

`docs/page-images.md` says why there is no form of it that needs no remote code.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from crossrank.encoding.tiles import Tiling
from crossrank.encoding.visual import VisualFormat, image_token_ids
from crossrank.models.activation import Activation
from crossrank.models.json_files import read_json_object, read_optional_object
from crossrank.models.published_layout import REMOTE_CODE, ST_ACTIVATIONS, complete_tokenizer, to_json
from crossrank.models.weights import find_weight_files, weight_names

_MODELING, _PROCESSING = "modeling_llama_nemotron_vl", "processing_llama_nemotron_vl"
_MODEL_CLASS, _PROCESSOR_CLASS = "LlamaNemotronVLForSequenceClassification", "LlamaNemotronVLProcessor"
_POOLER = "model.vision_model.vision_model.head."


def publish_nemotron_vl(folder: Path, visual: VisualFormat, activation: Activation) -> None:
    """Complete a folder that has weights, `config.json`, tokenizer and settings.

    Args:
        folder: What is completed.
        visual: What the folder says of images, limits and prompt.
        activation: What makes a probability of a logit.
    """
    for name in (_MODELING, _PROCESSING, REMOTE_CODE):
        shutil.copyfile(Path(__file__).parent / "remote_code" / f"{name}.py", folder / f"{name}.py")
    template = "v1" if "question:" in "".join(visual.prompt.image.pieces) else None
    _write_config(folder, visual)
    _write_processor(folder, visual, template)
    (folder / "chat_template.jinja").write_text(_chat_template(template), encoding="utf-8")
    limits = visual.limits
    complete_tokenizer(folder, max(limits.text, limits.image, limits.image_text))
    _write_sentence_transformers(folder, activation)


def _write_config(folder: Path, visual: VisualFormat) -> None:
    path = folder / "config.json"
    config = read_json_object(path)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config["img_context_token_id"] = image_token_ids(tokenizer, visual.prompt.image_tokens, visual.slot_id)[1]
    config["auto_map"] = {
        "AutoConfig": f"{_MODELING}.LlamaNemotronVLConfig",
        "AutoModelForSequenceClassification": f"{_MODELING}.{_MODEL_CLASS}",
    }
    if not any(name.startswith(_POOLER) for name in weight_names(find_weight_files(folder))):
        config["vision_config"] |= {"vision_use_head": False}
    path.write_text(to_json(config), encoding="utf-8")


def _write_processor(folder: Path, visual: VisualFormat, template: str | None) -> None:
    assert isinstance(visual.sizing, Tiling)
    path, sizing, limits = folder / "processor_config.json", visual.sizing, visual.limits
    stated = {
        "processor_class": _PROCESSOR_CLASS,
        "auto_map": {"AutoProcessor": f"{_PROCESSING}.{_PROCESSOR_CLASS}"},
        "image_size": sizing.side,
        "num_image_token": sizing.tokens_per_tile,
        "max_input_tiles": sizing.max_tiles,
        "use_thumbnail": sizing.use_thumbnail,
        "prompt_template": template,
        "max_length_text": limits.text,
        "max_length_image": limits.image,
        "max_length_image_text": limits.image_text,
    }
    path.write_text(to_json(read_optional_object(path) | stated), encoding="utf-8")


def _write_sentence_transformers(folder: Path, activation: Activation) -> None:
    output: dict[str, Any] = {"method": "forward", "method_output_name": "logits"}
    transformer = {
        "transformer_task": "sequence-classification",
        "modality_config": {"text": output, "image": output, "message": output | {"format": "structured"}},
        "module_output_name": "scores",
    }
    module = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.base.modules.transformer.Transformer"}
    whole = {"model_type": "CrossEncoder", "activation_fn": ST_ACTIVATIONS[activation]}
    files: dict[str, Any] = {
        "modules.json": [module],
        "sentence_bert_config.json": transformer,
        "config_sentence_transformers.json": whole | {"prompts": {}, "default_prompt_name": None},
    }
    for name, content in files.items():
        (folder / name).write_text(to_json(content), encoding="utf-8")


def _chat_template(template: str | None) -> str:
    """Return the prompt as a template over the messages of a pair, with `<image>` where the image goes."""
    before, between = ("question:", " \n \n passage:") if template == "v1" else ("", " \n ")
    return (
        "{%- macro parts(role, type) -%}{%- for message in messages if message.role == role -%}"
        "{%- if message.content is string -%}{{ message.content if type == 'text' }}{%- else -%}"
        "{%- for part in message.content if part.type == type -%}"
        "{{ part.text if type == 'text' else '<image> ' }}"
        "{%- endfor -%}{%- endif -%}{%- endfor -%}{%- endmacro -%}"
        f"{{{{ parts('document', 'image') }}}}{{{{ {json.dumps(before)} }}}}{{{{ parts('query', 'text') }}}}"
        f"{{{{ {json.dumps(between)} }}}}{{{{ parts('document', 'text') }}}}"
    )
