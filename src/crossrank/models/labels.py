"""The outputs of a head: how many there are, and which one is the score."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossrank.errors import InputError
from crossrank.models.json_files import whole_number
from crossrank.models.modular_layout import ModuleEntry, num_scores


def count_labels(config: Mapping[str, Any], modules: tuple[ModuleEntry, ...]) -> int:
    """Return how many outputs the head has, by the modules of a modular checkpoint or by `config.json`."""
    scores = num_scores(modules)
    if scores is not None:
        return scores
    names = config.get("id2label")
    # As in transformers: a stated number wins over the names, and without either there are two.
    return whole_number(config.get("num_labels"), len(names) if isinstance(names, dict) else 2)


def choose_label(label: int | str | None, num_labels: int, config: Mapping[str, Any], name: str) -> int:
    """Return the index of the output that is the score.

    Args:
        label: What the caller chose, an index or a name in `id2label`; None leaves no choice.
        num_labels: Outputs of the head.
        config: `config.json` of the checkpoint.
        name: The checkpoint, for errors.

    Raises:
        InputError: If there are several and none is chosen, or the chosen one is not there.
    """
    names = _label_names(config, num_labels)
    listed = ", ".join(f"{i} ({text!r})" for i, text in enumerate(names))
    if label is None:
        if num_labels == 1:
            return 0
        raise InputError(f"{name} has {num_labels} labels and one has to be the score: give label=, one of {listed}")
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < num_labels:
        return label
    raise InputError(f"{name} has no label {label!r}: give one of {listed}")


def _label_names(config: Mapping[str, Any], num_labels: int) -> list[str]:
    stated = config.get("id2label")
    names: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    return [str(names.get(str(i), f"LABEL_{i}")) for i in range(num_labels)]
