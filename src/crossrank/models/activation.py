"""Which activation makes a probability of a checkpoint's logit: the rule of sentence-transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from crossrank.errors import UnsupportedModel

Activation = Literal["sigmoid", "identity"]

_KNOWN: dict[str, Activation] = {
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
    "torch.nn.Sigmoid": "sigmoid",
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.Identity": "identity",
}


def resolve_activation(
    config: Mapping[str, Any], ensemble: Mapping[str, Any], *, num_labels: int, where: str
) -> Activation:
    """Return the activation that a checkpoint's own files ask for.

    In order: `activation_fn` of `config_sentence_transformers.json`, `sentence_transformers.activation_fn` of
    `config.json`, its older key `sbert_ce_default_activation_function`, else sigmoid for one label and identity for
    several.

    Args:
        config: `config.json`.
        ensemble: `config_sentence_transformers.json`, empty where there is none.
        num_labels: Outputs of the head.
        where: The checkpoint, for errors.

    Raises:
        UnsupportedModel: If another activation is named: it would have to be imported from a name in the file.

    Source: sentence-transformers 6.2, `CrossEncoder.get_default_activation_fn`.
    """
    section = config.get("sentence_transformers")
    named = (
        ensemble.get("activation_fn"),
        section.get("activation_fn") if isinstance(section, Mapping) else None,
        config.get("sbert_ce_default_activation_function"),
    )
    path = next((name for name in named if name is not None), None)
    if path is None:
        return "sigmoid" if num_labels == 1 else "identity"
    if not isinstance(path, str) or path not in _KNOWN:
        raise UnsupportedModel(
            f"{where}: the activation {path!r} is not one that crossrank knows (Sigmoid, Identity); state "
            '"activation": "sigmoid" or "identity" in crossrank.json beside config.json'
        )
    return _KNOWN[path]
