"""Which tokens of the vocabulary are the answers of a language model."""

from __future__ import annotations

from typing import Any

from tokenizers import Tokenizer

from crossrank.errors import CheckpointError
from crossrank.models.checkpoint import Checkpoint, load_tokenizer
from crossrank.models.modular_layout import LOGIT_SCORE


def answer_ids(checkpoint: Checkpoint) -> list[int]:
    """Return the ids of the answers, the one for relevant first.

    They stand in the LogitScore module, or in the family: there as an id, or as a word, which is a token of the
    vocabulary or else begins with one.

    Raises:
        CheckpointError: If one is missing from the vocabulary, or both are the same.
    """
    where, answers = checkpoint.name, checkpoint.family.answers
    if not answers and checkpoint.modules and checkpoint.modules[-1].kind == LOGIT_SCORE:
        entry = checkpoint.modules[-1]
        where, stated = str(entry.folder / "config.json"), entry.config
        answers = tuple(
            _token_id(stated, key, where) for key in ("true_token_id", "false_token_id") if _has(stated, key)
        )
    tokenizer = load_tokenizer(checkpoint)
    ids = [answer if isinstance(answer, int) else _find(tokenizer, answer, where) for answer in answers]
    size = int(checkpoint.config.get("vocab_size") or tokenizer.get_vocab_size())
    if any(not 0 <= token < size for token in ids) or len(set(ids)) != len(ids):
        raise CheckpointError(f"{where}: the answer tokens {ids} must be different ids of a vocabulary of {size}")
    return ids


def _has(stated: dict[str, Any], key: str) -> bool:
    return key == "true_token_id" or stated.get(key) is not None


def _token_id(stated: dict[str, Any], key: str, where: str) -> int:
    value = stated.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise CheckpointError(f"{where}: {key} must be the id of a token, not {value!r}")
    return value


def _find(tokenizer: Tokenizer, word: str, where: str) -> int:
    token: int | None = tokenizer.token_to_id(word)
    ids = [token] if token is not None else tokenizer.encode(word, add_special_tokens=False).ids
    if not ids:
        raise CheckpointError(f"{where}: the tokenizer has no token for the answer {word!r}; is it the model's own?")
    return int(ids[0])
