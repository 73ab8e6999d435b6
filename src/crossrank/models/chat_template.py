"""The chat template of a tokenizer as a sequence template, as sentence-transformers fills it for a pair.

A pair becomes two messages, of the roles `query` and `document`, behind a system message with the instruction where
there is one. The chat template is rendered once with marks in their places, and the marks become the slots.

Source: `CrossEncoder` and `Transformer` of sentence-transformers 6.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from crossrank.encoding.template import SequenceTemplate, Slot
from crossrank.errors import MissingExtra, UnsupportedModel
from crossrank.models.json_files import read_optional_object

# Single characters of the private use area: no template holds them, and no comparison cuts one in two.
_MARKS: dict[Slot, str] = {"instruction": "\ue000", "query": "\ue001", "document": "\ue002"}
# Options of sentence-transformers and of the tokenizer call that a template never sees.
_NOT_FOR_THE_TEMPLATE = {"restore_suffix", "padding", "truncation", "max_length", "return_tensors"}


def has_chat_template(folder: Path, *, if_unstated: bool) -> bool:
    """Return whether sentence-transformers would put a pair into the chat template of a folder's tokenizer.

    Args:
        folder: Of the tokenizer.
        if_unstated: What holds where `sentence_bert_config.json` does not say whether the model reads messages.
    """
    modalities = read_optional_object(folder / "sentence_bert_config.json").get("modality_config")
    if not ("message" in modalities if isinstance(modalities, Mapping) else if_unstated):
        return False
    in_file = (folder / "chat_template.jinja").is_file()
    return in_file or bool(read_optional_object(folder / "tokenizer_config.json").get("chat_template"))


def read_chat_template(folder: Path, *, default_instruction: str | None) -> SequenceTemplate:
    """Return the sequence template that a folder's chat template amounts to.

    Args:
        folder: Of the tokenizer.
        default_instruction: The instruction where the caller gives none.

    Raises:
        UnsupportedModel: If the chat template cannot carry a query and a document.
        MissingExtra: If transformers is not installed.
    """
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra(f"{folder}: rendering the chat template", extra="torch") from None
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    options = read_optional_object(folder / "sentence_bert_config.json").get("processing_kwargs") or {}
    template_options = {
        key: value for key, value in (options.get("chat_template") or {}).items() if key not in _NOT_FOR_THE_TEMPLATE
    }
    for is_structured in (False, True):
        render = partial(_render, tokenizer, template_options, is_structured=is_structured)
        sides: dict[Slot, str] = {slot: mark for slot, mark in _MARKS.items() if slot != "instruction"}
        without = render(sides)
        if all(without.count(mark) == 1 for mark in sides.values()):
            asked = render(_MARKS)  # nothing where a template refuses system messages
            spaced = render({slot: f" \n{mark}\t " for slot, mark in (_MARKS if asked else sides).items()})
            stripped = _stripped(asked or without, spaced, folder)
            return _to_template(without, asked, default_instruction, stripped)
    raise UnsupportedModel(
        f"{folder}: the chat template does not show the messages of the roles 'query' and 'document' once each: it is "
        "not that of a reranker"
    )


def _render(tokenizer: Any, options: dict[str, Any], texts: Mapping[Slot, str], *, is_structured: bool) -> str:
    """Render the messages of a pair; nothing where the template refuses this form of messages."""
    from jinja2 import TemplateError

    messages = [
        {
            "role": "system" if slot == "instruction" else slot,
            "content": [{"type": "text", "text": text}] if is_structured else text,
        }
        for slot, text in texts.items()
    ]
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))
    except (TemplateError, TypeError, ValueError):
        return ""


def _stripped(plain: str, spaced: str, folder: Path) -> tuple[Slot, ...]:
    """Return the slots whose white space a template takes away, by a rendering of marks with and without some.

    Raises:
        UnsupportedModel: If it does something else to a text.
    """
    stripped = tuple(slot for slot, mark in _MARKS.items() if mark in plain and f" \n{mark}\t " not in spaced)
    kept = {slot: mark for slot, mark in _MARKS.items() if slot not in stripped}
    for mark in kept.values():
        spaced = spaced.replace(f" \n{mark}\t ", mark)
    if spaced != plain:
        raise UnsupportedModel(f"{folder}: the chat template changes the texts of a pair, and not only their ends")
    return stripped


def _to_template(
    without: str, asked: str, default_instruction: str | None, stripped: tuple[Slot, ...]
) -> SequenceTemplate:
    """Make one template of two renderings that differ in one place at most: where the instruction goes."""
    if asked.count(_MARKS["instruction"]) != 1:
        return SequenceTemplate((_with_slots(without),), stripped=stripped)
    start = _common_prefix(without, asked)
    end = _common_prefix(without[start:][::-1], asked[start:][::-1])
    piece = asked[:start] + "{instruction}" + asked[len(asked) - end :]
    instruction = asked[start : len(asked) - end].replace(_MARKS["instruction"], "{instruction}")
    absent = without[start : len(without) - end]
    if default_instruction is not None:
        given = default_instruction.strip() if "instruction" in stripped else default_instruction
        absent = instruction.replace("{instruction}", given)
    return SequenceTemplate(
        (_with_slots(piece),), instruction=instruction, without_instruction=absent, stripped=stripped
    )


def _with_slots(text: str) -> str:
    for slot in ("query", "document"):
        text = text.replace(_MARKS[slot], f"{{{slot}}}")
    return text


def _common_prefix(left: str, right: str) -> int:
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right)))
