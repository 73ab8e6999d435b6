"""The tokenizer of a checkpoint, and what makes token ids of pairs with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Tokenizer

from crossrank.encoding.pairs import PairEncoder
from crossrank.encoding.template import TemplateEncoder
from crossrank.encoding.visual import Encoder, VisualEncoder, image_token_ids
from crossrank.errors import CheckpointError, MissingExtra, UnsupportedModel
from crossrank.models.chat_template import read_chat_template
from crossrank.models.json_files import read_optional_object

if TYPE_CHECKING:
    from crossrank.models.checkpoint import Checkpoint


def load_encoder(checkpoint: Checkpoint) -> Encoder:
    """Return what makes token ids of pairs: the checkpoint's template, or the plain pair of its tokenizer.

    Raises:
        CheckpointError: If there is no tokenizer, or it does not fit.
        MissingExtra: If only the older tokenizer files are there and transformers is not installed.
    """
    tokenizer, prompt, template = load_tokenizer(checkpoint), checkpoint.settings.prompt, checkpoint.template
    if checkpoint.uses_chat_template:
        template = read_chat_template(checkpoint.transformer_folder, default_instruction=checkpoint.default_instruction)
    if checkpoint.visual is not None:
        return VisualEncoder(tokenizer, checkpoint.visual, prompt=prompt)
    if template is None:
        return PairEncoder(tokenizer, max_length=checkpoint.max_length, prompt=prompt)
    return TemplateEncoder(tokenizer, template, max_length=checkpoint.max_length, prompt=prompt)


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Return the checkpoint's tokenizer.

    Reads `tokenizer.json`; where only the older files are there (`vocab.txt`, a sentencepiece model), transformers
    builds it from them.

    Raises:
        CheckpointError: If there is no tokenizer, or its file is broken.
        MissingExtra: If only the older files are there and transformers is not installed.
    """
    folder = checkpoint.tokenizer_folder
    path = folder / "tokenizer.json"
    if not path.is_file():
        return _convert_tokenizer(folder)
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{path}: not UTF-8 ({error}); download or copy the file again") from None
    except Exception as error:  # the tokenizers library raises the bare class
        if type(error) is not Exception:
            raise
        raise CheckpointError(f"{path}: not a tokenizer file ({error}); download or copy the file again") from None
    _add_stated_special_tokens(tokenizer, read_optional_object(folder / "tokenizer_config.json"))
    return tokenizer


def slot_id_of(checkpoint: Checkpoint) -> int:
    """Return the id that stands where a vector of an image goes, of a checkpoint that reads images.

    Raises:
        CheckpointError: If the tokenizer lacks it, or `config.json` has another one.
    """
    assert checkpoint.visual is not None
    visual = checkpoint.visual
    return image_token_ids(load_tokenizer(checkpoint), visual.prompt.image_tokens, visual.slot_id)[1]


def _add_stated_special_tokens(tokenizer: Tokenizer, tokenizer_config: Mapping[str, Any]) -> None:
    """Make special what `tokenizer_config.json` names so, as transformers does.

    The files of one published reranker pad with `+`, which is an ordinary word to its `tokenizer.json` alone.
    """
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for key, value in tokenizer_config.items():
        token = token_text(value) if key.endswith("_token") else None
        if token is not None and token not in known and tokenizer.token_to_id(token) is not None:
            tokenizer.add_special_tokens([token])


def _convert_tokenizer(folder: Path) -> Tokenizer:
    if not any((folder / file).is_file() for file in ("vocab.txt", "vocab.json")) and not any(folder.glob("*.model")):
        raise CheckpointError(f"{folder}: no tokenizer.json and no vocabulary: copy the checkpoint's tokenizer here")
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise MissingExtra(f"{folder}: without tokenizer.json, reading the tokenizer", extra="torch") from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: the tokenizer cannot be built from its vocabulary: {error}") from error
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise UnsupportedModel(f"{folder}: {type(tokenizer).__name__} has no fast form: save it as tokenizer.json")
    return backend


def token_text(value: Any) -> str | None:
    """Return a special token as `tokenizer_config.json` names it, in either of its forms."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None
