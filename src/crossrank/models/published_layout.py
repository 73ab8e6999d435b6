"""Writing a bidirectional decoder as nvidia/llama-nemotron-rerank-1b-v2 lies on the hub, and for two more readers.

    config.json, model*.safetensors     the published layout: `llama_bidirec`, keys `model.*` and `score.weight`
    llama_bidirectional_model.py        the classes that its `auto_map` names, for transformers with remote code
    crossrank.json                      prompt, limit, pooling: what crossrank reads
    modules.json, 1_Pooling, 2_Dense, sentence_bert_config.json, config_native.json, chat_template.jinja
                                        the same network for sentence-transformers, without remote code

The readers share one copy of the weights: `sentence_bert_config.json` points sentence-transformers to
`config_native.json`, in which the body is transformers' own class with `is_causal` false.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from crossrank.encoding.template import TemplateEncoder
from crossrank.models.bidirectional_layout import BACKBONES, MAX_LENGTH, TEMPLATE, HeadSettings, architecture_of
from crossrank.models.json_files import read_json_object, read_optional_object

if TYPE_CHECKING:
    from crossrank.encoding.prompt import PromptTemplate
    from crossrank.encoding.template import SequenceTemplate
    from crossrank.models.settings import CheckpointSettings

logger = logging.getLogger(__name__)

REMOTE_CODE = "llama_bidirectional_model"
_NATIVE_CONFIG = "config_native.json"
# Pairs whose tokens tell two ways of tokenising a prompt apart, and room for them.
_PROBES = (("how much protein?", "46 grams per day."), (" Mars", " red  planet\n"), ("a", ""))
_PROBE_MAX_LENGTH = 8192
_ST_POOLING = {"avg": "mean", "cls": "cls", "last": "lasttoken"}
ST_ACTIVATIONS = {"sigmoid": "torch.nn.modules.activation.Sigmoid", "identity": "torch.nn.modules.linear.Identity"}


def is_bidirectional(model: Any) -> bool:
    """Return whether a model is a bidirectional decoder, also inside an adapter of peft."""
    return isinstance(getattr(_unwrapped(model), "head", None), HeadSettings)


def publish(folder: Path, model: Any, settings: CheckpointSettings) -> CheckpointSettings:
    """Complete a folder that `save_pretrained` of the model and of its tokenizer have written.

    Where the model wears an adapter of peft, the folder describes the whole, and holds the adapter alone.

    Args:
        folder: With the native `config.json`, unless there is an adapter.
        model: The bidirectional classifier.
        settings: What its `crossrank.json` shall say.

    Returns:
        The settings, with prompt, limit and pooling spelled out.
    """
    whole = _unwrapped(model)
    if whole is not model:
        whole.config.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # an empty form of peft
    native = read_json_object(folder / "config.json")
    (folder / "config.json").write_text(to_json(published_config(native, whole.head)), encoding="utf-8")
    if native["model_type"] == "llama":
        shutil.copyfile(Path(__file__).parent / "remote_code" / f"{REMOTE_CODE}.py", folder / f"{REMOTE_CODE}.py")
    template = settings.template or TEMPLATE
    max_length = min(settings.max_length or MAX_LENGTH, native["max_position_embeddings"])
    spelled_out = {"template": template, "max_length": max_length, "pooling": whole.head.pooling}
    if whole is model and len(template.pieces) == 1 and not template.takes_instruction:
        body = native | {"architectures": [type(whole.model).__name__]}
        (folder / _NATIVE_CONFIG).write_text(to_json(body), encoding="utf-8")
        prompt = _find_prompt(folder, template, settings.prompt)
        if prompt is None:
            logger.warning("the prompt has no form for sentence-transformers: the files for it are left out")
            (folder / _NATIVE_CONFIG).unlink()
        else:
            _write_sentence_transformers(folder, whole, settings)
            (folder / "chat_template.jinja").write_text(_chat_template(prompt), encoding="utf-8")
            complete_tokenizer(folder, max_length)
    return settings.model_copy(update=spelled_out)


def published_config(native: dict[str, Any], head: HeadSettings) -> dict[str, Any]:
    """Return `config.json` of the published layout.

    Args:
        native: `config.json` of the body's own class.
        head: Pooling and temperature.
    """
    dropped = ("is_causal", "dtype", "architectures", "model_type")
    values = {key: value for key, value in native.items() if key not in dropped}
    backbone = native["model_type"]
    model_type = next(name for name, body in BACKBONES.items() if body == backbone)
    if backbone == "llama":
        # The published names, which every version of transformers reads.
        rope = dict(values.pop("rope_parameters", None) or {})
        values["rope_theta"] = rope.pop("rope_theta", 10000.0)
        values["rope_scaling"] = rope if rope.get("rope_type", "default") != "default" else None
        values["auto_map"] = {
            "AutoConfig": f"{REMOTE_CODE}.LlamaBidirectionalConfig",
            "AutoModelForSequenceClassification": f"{REMOTE_CODE}.{architecture_of(backbone)}",
        }
    named = {"architectures": [architecture_of(backbone)], "model_type": model_type, "torch_dtype": native.get("dtype")}
    return named | values | head._asdict()


def _write_sentence_transformers(folder: Path, model: Any, settings: CheckpointSettings) -> None:
    from safetensors.torch import save_file

    weight = model.score.weight.detach().float().cpu() / (model.head.temperature * settings.temperature)
    num_labels, hidden_size = weight.shape
    pooling = {"embedding_dimension": hidden_size, "pooling_mode": _ST_POOLING[model.head.pooling]}
    dense = {"in_features": hidden_size, "out_features": num_labels, "bias": False}
    dense |= {"activation_function": ST_ACTIVATIONS["identity"]}
    dense |= {"module_input_name": "sentence_embedding", "module_output_name": "scores"}
    output = {"method": "forward", "method_output_name": "last_hidden_state"}
    transformer = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": output, "message": output | {"format": "flat"}},
        "module_output_name": "token_embeddings",
        "config_kwargs": {"_configuration_file": _NATIVE_CONFIG},
        "processor_kwargs": {"_configuration_file": _NATIVE_CONFIG},
    }
    modules = [
        ("", "base.modules.transformer.Transformer"),
        ("1_Pooling", "sentence_transformer.modules.pooling.Pooling"),
        ("2_Dense", "base.modules.dense.Dense"),
    ]
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    whole: dict[str, Any] = {
        "model_type": "CrossEncoder",
        "activation_fn": ST_ACTIVATIONS[settings.activation or "identity"],
    }
    whole |= {"keep_in_fp32_modules": ["2.linear"], "prompts": {}, "default_prompt_name": None}
    files: dict[str, Any] = {
        "modules.json": listed,
        "sentence_bert_config.json": transformer,
        "config_sentence_transformers.json": whole,
        "1_Pooling/config.json": pooling | {"include_prompt": True},
        "2_Dense/config.json": dense,
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(to_json(content), encoding="utf-8")
    save_file({"linear.weight": weight.contiguous()}, folder / "2_Dense" / "model.safetensors")


def _find_prompt(folder: Path, template: SequenceTemplate, prompt: PromptTemplate) -> str | None:
    """Return the prompt with its special tokens written out, as sentence-transformers tokenises it; None if it cannot.

    SentencePiece tokenizers put a space before a text, which some of them leave out behind a special token.
    """
    from transformers import AutoTokenizer

    try:
        reader = AutoTokenizer.from_pretrained(
            folder, _configuration_file=_NATIVE_CONFIG, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError, KeyError, ImportError):  # none of its own, or one with code from the checkpoint
        return None
    stated = folder / "tokenizer.json"
    own = Tokenizer.from_file(str(stated)) if stated.is_file() else reader.backend_tokenizer
    encoder = TemplateEncoder(own, template, max_length=_PROBE_MAX_LENGTH, prompt=prompt)
    expected = [ids.tolist() for ids in encoder.encode(_PROBES).input_ids]
    before, after = _special_tokens(own) if template.special_tokens else ("", "")
    piece = template.pieces[0].replace("{query}", prompt.query)
    for gap in ("", " "):
        text = f"{before}{gap}{piece}{after}"
        filled = [text.replace("{query}", query).replace("{document}", document) for query, document in _PROBES]
        if reader(filled, add_special_tokens=False)["input_ids"] == expected:
            return text
    return None


def _chat_template(text: str) -> str:
    """Return a prompt in the form in which sentence-transformers and vLLM look for it."""
    head, _, rest = text.partition("{query}")
    middle, _, tail = rest.partition("{document}")
    names = ["query", "document"]
    if not rest.count("{document}"):
        first, _, middle = head.partition("{document}")
        head, tail, names = first, rest, ["document", "query"]
    slots = [
        f"{{{{ messages | selectattr('role', 'eq', '{name}') | map(attribute='content') | first }}}}" for name in names
    ]
    parts = [_literal(head), slots[0], _literal(middle), slots[1], _literal(tail)]
    return "".join(parts)


def complete_tokenizer(folder: Path, max_length: int) -> None:
    """Write the limit, and a padding token where there is none, as in Llama 3: any will do, it is masked."""
    path = folder / "tokenizer_config.json"
    values = read_optional_object(path)
    special = read_optional_object(folder / "special_tokens_map.json") | values
    values["pad_token"] = special.get("pad_token") or special.get("eos_token")
    values["model_max_length"] = max_length
    values.pop("chat_template", None)  # its own file has it
    path.write_text(to_json(values), encoding="utf-8")


def _special_tokens(tokenizer: Tokenizer) -> tuple[str, str]:
    """Return what the tokenizer puts before and behind a single text, as text."""
    encoding = tokenizer.encode("a")
    real = [i for i, is_special in enumerate(encoding.special_tokens_mask) if not is_special]
    return "".join(encoding.tokens[: real[0]]), "".join(encoding.tokens[real[-1] + 1 :])


def _literal(text: str) -> str:
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def _unwrapped(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def to_json(value: Any) -> str:
    """Return a value as the files of a checkpoint have it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
