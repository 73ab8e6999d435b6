"""SigLIP, a projector and a bidirectional Llama under a scoring head, for `trust_remote_code=True`.

crossrank copies this file beside the checkpoints it saves and never runs it: it loads them without remote code. It
needs transformers 5 alone. `processing_llama_nemotron_vl.py` makes its inputs.
"""

from typing import ClassVar

import torch
from transformers import PretrainedConfig, PreTrainedModel, SiglipVisionConfig, SiglipVisionModel
from transformers.modeling_outputs import SequenceClassifierOutput

from .llama_bidirectional_model import LlamaBidirectionalConfig, LlamaBidirectionalModel, pool


class LlamaNemotronVLConfig(PretrainedConfig):
    """What joins the towers; every other key of the published file is carried along."""

    model_type = "llama_nemotron_vl_rerank"
    sub_configs: ClassVar = {"vision_config": SiglipVisionConfig, "llm_config": LlamaBidirectionalConfig}

    def __init__(
        self,
        vision_config: dict | None = None,
        llm_config: dict | None = None,
        pooling: str = "last",
        temperature: float = 1.0,
        select_layer: int = -1,
        img_context_token_id: int = 128258,
        **kwargs: object,
    ) -> None:
        vision, language = vision_config or {}, llm_config or {}
        self.vision_config = SiglipVisionConfig(**vision) if isinstance(vision, dict) else vision
        self.llm_config = LlamaBidirectionalConfig(**language) if isinstance(language, dict) else language
        self.pooling = pooling
        self.temperature = temperature
        self.select_layer = select_layer
        self.img_context_token_id = img_context_token_id
        super().__init__(**{"num_labels": 1} | kwargs)


class LlamaNemotronVLTowers(torch.nn.Module):
    """Vision tower, projector and language model, as the published file names them."""

    def __init__(self, config: LlamaNemotronVLConfig) -> None:
        super().__init__()
        width, hidden = 4 * config.vision_config.hidden_size, config.llm_config.hidden_size
        self.vision_model = SiglipVisionModel._from_config(config.vision_config)
        self.language_model = LlamaBidirectionalModel._from_config(config.llm_config)
        self.mlp1 = torch.nn.Sequential(
            torch.nn.LayerNorm(width),
            torch.nn.Linear(width, hidden),
            torch.nn.GELU(),
            torch.nn.Linear(hidden, hidden),
        )

    def project(self, pixel_values: torch.Tensor, select_layer: int) -> torch.Tensor:
        """Return the image tokens of tiles, one row each, of pixels `(N, 3, S, S)` from -1 to 1."""
        pixels = pixel_values.to(self.mlp1[1].weight.dtype)
        if select_layer == -1:
            hidden = self.vision_model(pixel_values=pixels).last_hidden_state
        else:
            hidden = self.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states[select_layer]
        num_tiles, num_patches, channels = hidden.shape
        side = int(num_patches**0.5)
        squares = hidden.view(num_tiles, side // 2, 2, side // 2, 2, channels).transpose(2, 3)
        return self.mlp1(squares.reshape(num_tiles, num_patches // 4, 4 * channels)).flatten(0, 1)


class LlamaNemotronVLForSequenceClassification(PreTrainedModel):
    """Scores `(B, 1)`: image tokens where their slots are, pool the real tokens, a head in float32, the temperature."""

    config_class = LlamaNemotronVLConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    _supports_sdpa = True
    _supports_flash_attn = True
    _keep_in_fp32_modules_strict: ClassVar = ["score"]

    def __init__(self, config: LlamaNemotronVLConfig) -> None:
        super().__init__(config)
        self.num_labels = 1
        self.model = LlamaNemotronVLTowers(config)
        self.score = torch.nn.Linear(config.llm_config.hidden_size, 1, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, pixel_values=None, return_dict=None):
        """Return the logits in float32."""
        embeds = self.model.language_model.embed_tokens(input_ids)
        if pixel_values is not None:
            is_slot = input_ids == self.config.img_context_token_id
            features = self.model.project(pixel_values, self.config.select_layer)
            if int(is_slot.sum()) != len(features):
                raise ValueError(f"{int(is_slot.sum())} image tokens for {len(features)} vectors of the images")
            embeds = embeds.masked_scatter(is_slot[..., None], features.to(embeds.dtype))
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        hidden = self.model.language_model(inputs_embeds=embeds, attention_mask=attention_mask).last_hidden_state
        pooled = pool(hidden.float(), attention_mask, self.config.pooling)
        logits = torch.nn.functional.linear(pooled, self.score.weight.float()) / self.config.temperature
        return SequenceClassifierOutput(logits=logits)
