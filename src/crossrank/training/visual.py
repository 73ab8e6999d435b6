"""Rerankers of page images, ready to be trained: what is frozen, and what a step must do that scoring need not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crossrank.data.groups.dataset import TrainingGroups
from crossrank.encoding.pairs import VisualInput
from crossrank.encoding.tiles import Tiling
from crossrank.errors import InputError
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.nemotron_vl import NemotronVLReranker
from crossrank.models.settings import VisionSettings

# Modules beside the language model that an adapter leaves alone.
TOWER, PROJECTOR, HEAD = "vision_model", "mlp1", "score"


class TrainableVLReranker(NemotronVLReranker):
    """A `NemotronVLReranker` whose weights change.

    Gradients reach the vision tower (unless it is frozen), the projector, the language model and the head. Images are
    encoded anew in every step. While dev sets are ranked the page cache is used, and it is emptied whenever training
    or ranking begins, because the features of the weights of before would be stale.
    """

    def train(self, mode: bool = True) -> TrainableVLReranker:
        """Switch between training and ranking, and forget what the vision tower made of pages."""
        self.cache.clear()
        super().train(mode)
        return self

    def forward(self, input_ids: Tensor, attention_mask: Tensor, images: Sequence[VisualInput | None] = ()) -> Tensor:
        """Return logits, float32 `(B, 1)`.

        Every weight that is trained takes part in every forward pass, with no effect where there is no image: processes
        that train together must agree on which gradients there are, and one process must do the same as several.
        """
        logits_BL = super().forward(input_ids, attention_mask, images)
        if torch.is_grad_enabled() and not any(image is not None for image in images):
            logits_BL = logits_BL + self._no_effect()
        return logits_BL

    def encode_images(self, images: Sequence[VisualInput]) -> list[Tensor]:
        """Return the image tokens of each image, `(K, H)`; one that several pairs share is encoded once."""
        if not torch.is_grad_enabled():
            return super().encode_images(images)
        different = {image.key: image for image in images}
        features = dict(zip(different, self._encode_fresh(list(different.values())), strict=True))
        return [features[image.key] for image in images]

    def get_input_embeddings(self) -> Any:
        """Return the table of tokens."""
        return self.language_model.get_input_embeddings()

    def set_attn_implementation(self, name: str) -> None:
        """Choose how attention is computed."""
        self.language_model.set_attn_implementation(name)
        self.vision_model.set_attn_implementation(name)

    def trained_towers(self) -> list[Any]:
        """Return the models of transformers inside that activations are worth computing twice of."""
        is_trained = any(parameter.requires_grad for parameter in self.vision_model.parameters())
        return [self.language_model, *[self.vision_model] * is_trained]

    def enable_input_require_grads(self) -> None:
        """Let the embeddings of a frozen language model have gradients."""
        self.language_model.enable_input_require_grads()

    def _no_effect(self) -> Tensor | float:
        """Return 0, with a gradient of 0 for every trained weight of tower and projector."""
        parameters = [p for part in (self.vision_model, self.mlp1) for p in part.parameters() if p.requires_grad]
        return sum((p.flatten()[0].float() * 0 for p in parameters), start=0.0)


def make_trainable(
    model: NemotronVLReranker, *, freeze_vision: bool, fresh_projector: bool, on_cpu: bool
) -> TrainableVLReranker:
    """Turn a loaded reranker into one whose weights change, in place, and return it.

    Args:
        model: From `load_nemotron_vl`.
        freeze_vision: Keep the vision tower as it is.
        fresh_projector: Whether the projector starts at random: it is then trained in float32 beside frozen towers too.
        on_cpu: Whether it is trained on a CPU.
    """
    model.__class__ = TrainableVLReranker
    assert isinstance(model, TrainableVLReranker)
    if on_cpu:
        # Plain matrix products are faster than torch's fused attention there, forward and backward.
        model.set_attn_implementation("eager")
    model.vision_model.requires_grad_(not freeze_vision)
    for module in _unread(model):
        module.requires_grad_(False)
    if fresh_projector:
        model.mlp1.float()
        model.mlp1.register_forward_pre_hook(_to_float32)
    return model


def _unread(model: TrainableVLReranker) -> list[nn.Module]:
    """Return the parts of the tower that no score depends on: its pooler, and the layers behind the one it reads."""
    tower = model.vision_model
    pooler = [module for name, module in tower.named_children() if name == "head"]
    if model.select_layer == -1:
        return pooler
    layers = list(tower.encoder.layers)
    # States are counted from the embeddings on.
    first = model.select_layer % (len(layers) + 1)
    return [*pooler, *layers[first:], tower.post_layernorm]


def _to_float32(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].float(),)


def trained_settings(checkpoint: Checkpoint) -> VisionSettings:
    """Return how images were read in training, for `crossrank.json`."""
    assert checkpoint.visual is not None
    limits, sizing = checkpoint.visual.limits, checkpoint.visual.sizing
    assert isinstance(sizing, Tiling)
    return VisionSettings(
        max_input_tiles=sizing.max_tiles,
        use_thumbnail=sizing.use_thumbnail,
        max_length_image=limits.image,
        max_length_image_text=limits.image_text,
    )


def refuse_images_alone(name: str, *each: TrainingGroups | None) -> None:
    """Check that a model of texts finds a text in every document.

    Args:
        name: Of the model.
        each: Groups that it is trained or judged on.

    Raises:
        InputError: If a document is an image alone.
    """
    for groups in each:
        if groups is not None and (document := groups.find_image_alone()) is not None:
            image = document.id or (document.image if isinstance(document.image, str) else "an image")
            raise InputError(
                f"{name} reads text alone, and a document of the data has none ({image}): train a llama_nemotron_vl "
                "checkpoint, or a Llama with model.vision_tower, or read the texts alone (modality: text)"
            )
