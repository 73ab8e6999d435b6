"""A checkpoint folder, or a name on the hub, to everything that scoring needs to know before weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from crossrank.encoding.prompt import PromptTemplate
from crossrank.encoding.template import SequenceTemplate
from crossrank.encoding.visual import VisualFormat
from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.models.activation import Activation, resolve_activation
from crossrank.models.bidirectional_layout import BACKBONES, read_head
from crossrank.models.chat_template import has_chat_template
from crossrank.models.family import ONE_LOGIT_LAYOUTS, Family
from crossrank.models.json_files import read_json_object, read_optional_object, whole_number
from crossrank.models.labels import choose_label, count_labels
from crossrank.models.language_model_families import BOS_PIECE, LANGUAGE_MODEL_FAMILIES, LOGIT_SCORE_FAMILY
from crossrank.models.limits import choose_cutoff_layer, choose_max_length
from crossrank.models.locating import DEFAULT_MODEL, find_base, find_folder
from crossrank.models.lora_base import adapter_has, base_of_adapter
from crossrank.models.modular_layout import ModuleEntry, read_modules
from crossrank.models.published import PUBLISHED
from crossrank.models.resolution import choose_family, find_licence, fitting_families, has_logit_score
from crossrank.models.settings import SETTINGS_FILE, CheckpointSettings, VisionSettings, read_settings
from crossrank.models.tokenizer_files import load_encoder, load_tokenizer, token_text
from crossrank.models.visual_families import NEMOTRON_VL, VISUAL_FAMILIES, read_visual_format, with_max_tiles

__all__ = [
    "DEFAULT_MODEL",
    "Checkpoint",
    "describe_checkpoint",
    "find_folder",
    "load_encoder",
    "load_tokenizer",
    "open_checkpoint",
]

_OPENVINO_FILES = ("openvino/openvino_model.xml", "openvino_model.xml")
# Layouts whose score comes out of the model below an adapter.
_HEADLESS = ("causal-lm", "qwen-vl")
# Tokenizer classes of transformers that make no segments unless `model_input_names` says so.
_GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself; holds no weights.

    Attributes:
        name: As the user wrote it.
        folder: Where its files lie.
        config: `config.json` of the transformer.
        settings: `crossrank.json`, or its defaults.
        family: Its kind.
        family_reason: How that was found, in a few words.
        licence: Of its weights, as far as the table of families knows it.
        non_commercial: Whether that licence forbids commercial use.
        template: The sequence that holds query and document; None is the pair of the tokenizer, or its chat template.
        uses_chat_template: Whether the template is rendered from the tokenizer's chat template.
        default_instruction: What stands in the chat template's system message where the caller gives nothing.
        modules: `modules.json` of a modular checkpoint, otherwise empty.
        num_labels: Outputs of the head.
        label: Which of them is the score.
        max_length: Most tokens of a pair, special tokens included.
        pad_token_id: What stands after the end in a padded batch.
        uses_segments: Whether the model reads `token_type_ids`; where it does not, they count as 0.
        activation: What makes a probability of a logit, `"sigmoid"` or `"identity"`.
        cutoff_layer: How many layers are computed, where the family has a head behind each; otherwise None.
        openvino_file: The CPU form of the network, or None.
        base_folder: Where the checkpoint lies that the LoRA adapter in `folder` changes; None without an adapter.
        visual: How it reads images; None where it does not.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    settings: CheckpointSettings
    family: Family
    family_reason: str
    licence: str | None
    non_commercial: bool
    template: SequenceTemplate | None
    uses_chat_template: bool
    default_instruction: str | None
    modules: tuple[ModuleEntry, ...]
    num_labels: int
    label: int
    max_length: int
    pad_token_id: int
    uses_segments: bool
    activation: Activation
    cutoff_layer: int | None
    openvino_file: Path | None
    base_folder: Path | None = None
    visual: VisualFormat | None = None

    @property
    def transformer_folder(self) -> Path:
        """Where `config.json` and the weights of the transformer lie."""
        return self.modules[0].folder if self.modules else self.base_folder or self.folder

    @property
    def tokenizer_folder(self) -> Path:
        """Where the tokenizer lies: with an adapter that brings its own, or with the transformer."""
        return self.folder if (self.folder / "tokenizer.json").is_file() else self.transformer_folder

    def check_trained(self, *, allow_untrained: bool) -> None:
        """Check that scores mean something.

        Raises:
            CheckpointError: If the head is fresh, and nobody allowed that.
        """
        if self.settings.untrained_head and not allow_untrained:
            raise CheckpointError(
                f"{self.name}: the head is fresh, so every score would be random: save the reranker and train it, or "
                "say allow_untrained=True"
            )


def open_checkpoint(
    model: str | Path | None,
    *,
    revision: str | None = None,
    max_length: int | None = None,
    label: int | str | None = None,
    family: str | None = None,
    cutoff_layer: int | None = None,
    max_input_tiles: int | None = None,
    hub_name: str | None = None,
) -> Checkpoint:
    """Find a checkpoint and read everything but its weights.

    Args:
        model: A folder, a name on the hub, or None for the model that ships in the package.
        revision: Branch, tag or commit on the hub.
        max_length: Instead of the checkpoint's own limit, or below it.
        label: Which output is the score where the head has several: its index or its name in `id2label`.
        family: Its row in the table of families, where its files do not say it.
        cutoff_layer: How many layers are computed, for a family with a head behind each.
        max_input_tiles: Most tiles of an image, for a checkpoint that cuts images into tiles.
        hub_name: Where `model` is a folder that was downloaded from the hub: its name there.

    Raises:
        CheckpointError: If the checkpoint cannot be found or is broken.
        UnsupportedModel: If it is of a kind that crossrank cannot score.
        InputError: If `max_length`, `label`, `family`, `cutoff_layer`, `max_input_tiles` or `revision` does not fit the
            checkpoint.
    """
    name = DEFAULT_MODEL if model is None else str(model)
    folder = find_folder(model, revision)
    if hub_name is None and not Path(name).expanduser().is_dir():
        hub_name = name
    base_folder = find_base(folder, name)
    files = base_folder or folder
    # Beside a bidirectional decoder, modules.json says the same once more, for sentence-transformers.
    is_decoder = read_optional_object(files / "config.json").get("model_type") in (*BACKBONES, NEMOTRON_VL)
    modules = () if is_decoder else read_modules(files)
    transformer_folder = modules[0].folder if modules else files
    config = _read_config(folder if (folder / "config.json").is_file() else transformer_folder, name)
    settings = read_settings(folder if (folder / SETTINGS_FILE).is_file() else files)
    if base_folder is not None:
        below = base_of_adapter(folder)
        assert below is not None
        hub_name = hub_name if hub_name in PUBLISHED else below[0]  # what lies below says what both are
        has_head = config.get("model_type") in BACKBONES
        if has_head or not _needs_no_head(family or settings.family, hub_name, modules):
            settings = _check_adapter(folder, config, settings, name)
    checkpoint = describe_checkpoint(
        name,
        folder,
        config,
        settings,
        modules=modules,
        base_folder=base_folder,
        max_length=max_length,
        label=label,
        family=family,
        cutoff_layer=cutoff_layer,
        hub_name=hub_name,
    )
    return replace(checkpoint, visual=with_max_tiles(checkpoint.visual, max_input_tiles, name))


def describe_checkpoint(
    name: str,
    folder: Path,
    config: dict[str, Any],
    settings: CheckpointSettings,
    *,
    modules: tuple[ModuleEntry, ...] = (),
    base_folder: Path | None = None,
    max_length: int | None = None,
    label: int | str | None = None,
    family: str | None = None,
    cutoff_layer: int | None = None,
    hub_name: str | None = None,
) -> Checkpoint:
    """Return what a checkpoint says of itself, from its `config.json` and `crossrank.json`; as `open_checkpoint`."""
    transformer_folder = modules[0].folder if modules else base_folder or folder
    choice = choose_family(config, modules, asked=family, stated=settings.family, hub_name=hub_name, where=name)
    licence = find_licence(choice.family, hub_name)
    tokenizer_config = read_optional_object(transformer_folder / "tokenizer_config.json")
    ensemble = read_optional_object(folder / "config_sentence_transformers.json")
    in_chat = _uses_chat_template(settings, choice.family, transformer_folder)
    default_prompt = _default_prompt(ensemble)
    template = settings.template or _family_template(choice.family, tokenizer_config)
    if default_prompt and template is None and not in_chat and not (folder / SETTINGS_FILE).is_file():
        # As the CrossEncoder of sentence-transformers does.
        prompt = PromptTemplate(query=default_prompt + PromptTemplate.query)
        settings = settings.model_copy(update={"prompt": prompt})
    _check_pooling(settings, choice.family, config, name)
    most_tokens = choose_max_length(
        max_length, settings, config, tokenizer_config, transformer_folder, choice.family, name
    )
    num_labels = 1 if choice.family.layout in ONE_LOGIT_LAYOUTS else count_labels(config, modules)
    return Checkpoint(
        name=name,
        folder=folder,
        config=config,
        settings=settings,
        family=choice.family,
        family_reason=choice.reason,
        licence=licence.licence,
        non_commercial=licence.non_commercial,
        template=template,
        uses_chat_template=in_chat,
        default_instruction=default_prompt if in_chat else None,
        modules=modules,
        num_labels=num_labels,
        label=choose_label(label, num_labels, config, name),
        max_length=most_tokens,
        pad_token_id=whole_number(config.get("pad_token_id"), choice.family.pad_token_id),
        uses_segments=_uses_segments(choice.family, config, tokenizer_config),
        activation=settings.activation
        or choice.family.activation
        or resolve_activation(config, ensemble, num_labels=num_labels, where=name),
        cutoff_layer=choose_cutoff_layer(cutoff_layer, settings, choice.family, config, name),
        openvino_file=next((folder / file for file in _OPENVINO_FILES if (folder / file).is_file()), None),
        base_folder=base_folder,
        visual=read_visual_format(
            choice.family,
            config,
            transformer_folder,
            settings.vision or VisionSettings(),
            max_length=most_tokens,
            is_asked=max_length is not None,
            where=name,
        ),
    )


def _needs_no_head(family: str | None, hub_name: str | None, modules: tuple[ModuleEntry, ...]) -> bool:
    """Whether an adapter is known to make a reranker of what lies below it, without a head of its own."""
    published = PUBLISHED.get(hub_name or "")
    name = family or (LOGIT_SCORE_FAMILY if has_logit_score(modules) else published.family if published else None)
    return name in {known.name for known in (*LANGUAGE_MODEL_FAMILIES, *VISUAL_FAMILIES) if known.layout in _HEADLESS}


def _check_adapter(
    folder: Path, config: Mapping[str, Any], settings: CheckpointSettings, name: str
) -> CheckpointSettings:
    """Check that an adapter makes a bidirectional reranker; a fresh head below it does not count where it has one."""
    if config.get("model_type") not in BACKBONES:
        known = {family.name for family in LANGUAGE_MODEL_FAMILIES if family.layout in _HEADLESS}
        fitting = [family for family in fitting_families(config) if family in known - {LOGIT_SCORE_FAMILY}]
        remedy = f", or give family= (--family), one of {', '.join(fitting)}" if fitting else ""
        raise UnsupportedModel(
            f"{name}: a LoRA adapter on a {config.get('model_type')} model, and no file says that both together are a "
            f"reranker: put the config.json of the reranker beside the adapter{remedy}"
        )
    return settings.model_copy(update={"untrained_head": settings.untrained_head and not adapter_has(folder, "score")})


def _read_config(folder: Path, name: str) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{name}: no config.json in {folder}: is it the folder of a checkpoint?")
    return read_json_object(path)


def _family_template(family: Family, tokenizer_config: Mapping[str, Any]) -> SequenceTemplate | None:
    """Return the prompt of a family with the special tokens of the checkpoint's own tokenizer."""
    if family.template is None:
        return None
    bos, pad = (token_text(tokenizer_config.get(key)) for key in ("bos_token", "pad_token"))
    begin = (bos,) if bos is not None and bos != pad else ()
    pieces = (begin if piece == BOS_PIECE else (piece,) for piece in family.template.pieces)
    return replace(family.template, pieces=tuple(text for part in pieces for text in part))


def _uses_chat_template(settings: CheckpointSettings, family: Family, folder: Path) -> bool:
    if settings.template is not None or family.template is not None:
        return False
    is_logit_score = family.name == LOGIT_SCORE_FAMILY
    return (is_logit_score or family.layout == "decoder") and has_chat_template(folder, if_unstated=is_logit_score)


def _default_prompt(ensemble: Mapping[str, Any]) -> str | None:
    """Return the prompt that a sentence-transformers folder has by default."""
    name = ensemble.get("default_prompt_name")
    return (ensemble.get("prompts") or {}).get(name) or None if name else None


def _check_pooling(settings: CheckpointSettings, family: Family, config: Mapping[str, Any], name: str) -> None:
    actual = family.pooling or config.get("classifier_pooling")
    if family.layout == "bidirectional":
        actual = read_head(config, name).pooling
    if settings.pooling and actual and settings.pooling != actual:
        raise CheckpointError(
            f"{name}: crossrank.json says pooling {settings.pooling!r}, but the model reads {actual!r}; correct it"
        )


def _uses_segments(family: Family, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> bool:
    """Whether transformers would hand `token_type_ids` to the model, and the model has more than one segment."""
    generic = tokenizer_config.get("tokenizer_class") in _GENERIC_TOKENIZERS
    stated = tokenizer_config.get("model_input_names")
    inputs = ([] if generic else ["token_type_ids"]) if stated is None else stated
    return family.reads_segments and "token_type_ids" in inputs and whole_number(config.get("type_vocab_size"), 2) > 1
