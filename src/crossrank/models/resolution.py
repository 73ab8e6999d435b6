"""How a checkpoint finds its family: what is stated, then what its files say, never a part of its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossrank.errors import CheckpointError, InputError, UnsupportedModel
from crossrank.models.bidirectional_layout import BACKBONES
from crossrank.models.families import FAMILIES, architectures_of, resolve_family
from crossrank.models.family import Family
from crossrank.models.language_model_families import LANGUAGE_MODEL_SUFFIXES, LOGIT_SCORE_FAMILY
from crossrank.models.modular_layout import LOGIT_SCORE, ModuleEntry
from crossrank.models.published import PUBLISHED, Published
from crossrank.models.settings import SETTINGS_FILE
from crossrank.models.visual_families import JINA_M0, NEMOTRON_VL, QWEN3_VL


@dataclass(frozen=True)
class FamilyChoice:
    """The family of a checkpoint, and how it was found, in a few words."""

    family: Family
    reason: str


def choose_family(
    config: Mapping[str, Any],
    modules: tuple[ModuleEntry, ...],
    *,
    asked: str | None,
    stated: str | None,
    hub_name: str | None,
    where: str,
) -> FamilyChoice:
    """Return the family of a checkpoint and why it is that one.

    In order: what the caller asked for, what `crossrank.json` states, a `model_type` of bidirectional decoders with or
    without a vision tower, `modules.json`, the exact name on the hub, a native classifier in `config.json`.

    Args:
        config: `config.json` of the transformer.
        modules: `modules.json`, empty where there is none.
        asked: The argument `family`.
        stated: The family of `crossrank.json`.
        hub_name: The name on the hub; None for a folder.
        where: The checkpoint, for errors.

    Raises:
        InputError: If `asked` is no family, or does not fit the checkpoint.
        CheckpointError: If `crossrank.json` states a wrong one, or there is no scoring head.
        UnsupportedModel: If no family fits.
    """
    if asked is not None:
        return FamilyChoice(_named(asked, config, modules, where, error=InputError), f"family={asked!r} was asked for")
    if stated is not None:
        family = _named(stated, config, modules, f"{where}: {SETTINGS_FILE}", error=CheckpointError)
        return FamilyChoice(family, f"{SETTINGS_FILE} states it")
    if config.get("model_type") in BACKBONES:
        family = resolve_family(config, modular=False, where=where)
        return FamilyChoice(family, f"config.json has model_type {config['model_type']!r}: bidirectional attention")
    if config.get("model_type") == NEMOTRON_VL:
        family = resolve_family(config, modular=False, where=where)
        return FamilyChoice(family, f"config.json has model_type {NEMOTRON_VL!r}")
    if has_logit_score(modules) and QWEN3_VL.architectures[0] in architectures_of(config, where):
        return FamilyChoice(QWEN3_VL, "modules.json ends in LogitScore, on Qwen3-VL")
    if has_logit_score(modules):
        family = _named(LOGIT_SCORE_FAMILY, config, modules, where, error=UnsupportedModel)
        return FamilyChoice(family, "modules.json ends in LogitScore")
    if len(modules) > 1:
        return FamilyChoice(resolve_family(config, modular=True, where=where), "modules.json lists its modules")
    published = PUBLISHED.get(hub_name or "")
    if published is not None and published.family is not None:
        family = _named(published.family, config, modules, where, error=UnsupportedModel)
        return FamilyChoice(family, f"{hub_name} is a published checkpoint of it")
    if JINA_M0.architectures[0] in architectures_of(config, where):
        return FamilyChoice(JINA_M0, f"config.json names {JINA_M0.architectures[0]}")
    _check_stated(config, where)
    family = resolve_family(config, modular=False, where=where)
    return FamilyChoice(family, _native_reason(config, family))


def _native_reason(config: Mapping[str, Any], family: Family) -> str:
    named = ", ".join(config.get("architectures") or [str(config.get("model_type"))])
    if family.layout == "native":
        return f"the table does not list {named}: AutoModelForSequenceClassification with native attention"
    if family.layout == "decoder":
        return f"config.json names {named}: attention stays causal, as bidirectional ones have another model_type"
    return "config.json names a native classifier"


def find_licence(family: Family, hub_name: str | None) -> Published:
    """Return the licence of a checkpoint, as far as its family or its exact name on the hub tell it."""
    published = PUBLISHED.get(hub_name or "")
    if published is not None and published.licence is not None:
        return published
    if published is not None:
        family = next(known for known in FAMILIES if known.name == published.family)
    return Published(family.name, family.licence, family.non_commercial)


def has_logit_score(modules: tuple[ModuleEntry, ...]) -> bool:
    """Return whether a checkpoint is a causal LM in the layout of sentence-transformers."""
    return bool(modules) and modules[-1].kind == LOGIT_SCORE


def _named(
    name: str,
    config: Mapping[str, Any],
    modules: tuple[ModuleEntry, ...],
    where: str,
    *,
    error: type[InputError] | type[CheckpointError],
) -> Family:
    """Return a family by its name, after a check that the files are of its kind."""
    family = next((family for family in FAMILIES if family.name == name), None)
    if family is None:
        raise error(f"{where}: there is no family {name!r}; families are {', '.join(known.name for known in FAMILIES)}")
    if family.model_types or family.layout in ("modular", "native"):
        own = resolve_family(config, modular=len(modules) > 1, where=where)
        if own.name != name:
            raise error(f"{where}: family {name!r} does not fit: its files are of {own.name!r}")
        return own
    if name == LOGIT_SCORE_FAMILY and not has_logit_score(modules):
        raise error(f"{where}: family {name!r} needs a modules.json that ends in LogitScore")
    architectures = architectures_of(config, where)
    if not set(architectures) & set(family.architectures):
        fitting = fitting_families(config)
        remedy = f"; families for it: {', '.join(fitting)}" if fitting else ""
        actual = ", ".join(architectures) or "a config.json without architectures"
        raise error(f"{where}: family {name!r} is {' or '.join(family.architectures)}, not {actual}{remedy}")
    return family


def fitting_families(config: Mapping[str, Any]) -> list[str]:
    """Return the names of the families whose classes stand in a `config.json`."""
    architectures = set(config.get("architectures") or [])
    return [family.name for family in FAMILIES if architectures & set(family.architectures)]


def _check_stated(config: Mapping[str, Any], where: str) -> None:
    """Refuse what could be one of several rerankers, or none: a bare language model, a class without its `model_type`.

    Raises:
        UnsupportedModel: Lists the families that it could be.
    """
    architectures = architectures_of(config, where)
    by_model_type = {family.name for family in FAMILIES if family.model_types}
    is_language_model = any(name.endswith(LANGUAGE_MODEL_SUFFIXES) for name in architectures)
    if not is_language_model and config.get("model_type"):
        return
    unstated = [name for name in fitting_families(config) if name not in by_model_type | {LOGIT_SCORE_FAMILY}]
    if unstated:
        kind = "is a language model" if is_language_model else "stands in config.json without a model_type"
        raise UnsupportedModel(
            f"{where}: {', '.join(architectures)} {kind}, and its files do not say which reranker it is: "
            f"give family= (--family), one of {', '.join(unstated)} (or `family` in {SETTINGS_FILE})"
        )
