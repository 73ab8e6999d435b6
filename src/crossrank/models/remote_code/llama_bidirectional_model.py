"""Llama with bidirectional attention, pooling and a scoring head, for `trust_remote_code=True`.

crossrank copies this file beside the checkpoints it saves and never runs it: it loads them without remote code, and so
does sentence-transformers. It needs transformers alone, 4.48 or newer.
"""

import torch
from transformers import LlamaConfig, LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput


class LlamaBidirectionalConfig(LlamaConfig):
    """A Llama configuration with the pooling and the temperature of the head."""

    model_type = "llama_bidirec"

    def __init__(self, pooling: str = "avg", temperature: float = 1.0, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.pooling = pooling
        self.temperature = temperature


class LlamaBidirectionalModel(LlamaModel):
    """Llama whose tokens all see each other."""

    config_class = LlamaBidirectionalConfig

    def __init__(self, config: LlamaBidirectionalConfig) -> None:
        super().__init__(config)
        config.is_causal = False
        for layer in self.layers:
            layer.self_attn.is_causal = False

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        """Run the body; a padded batch gets a mask of one row a sequence."""
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if attention_mask is None:
            attention_mask = embeds.new_ones(embeds.shape[:2], dtype=torch.long)
        hidden = torch.finfo(embeds.dtype).min
        mask = (1.0 - attention_mask[:, None, None, :].to(embeds.dtype)) * hidden
        kwargs["use_cache"] = False
        return super().forward(inputs_embeds=embeds, attention_mask=mask.expand(-1, 1, embeds.shape[1], -1), **kwargs)


def pool(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    """Return one vector a row `(B, H)` of the hidden states of its real tokens."""
    real = attention_mask.bool()
    if pooling == "avg":
        return hidden.masked_fill(~real[..., None], 0).sum(1) / real.sum(1, keepdim=True)
    if pooling not in ("cls", "last"):
        raise ValueError(f"pooling must be avg, cls or last, not {pooling!r}")
    ends = real.int() if pooling == "cls" else real.int().flip(1)
    at = ends.argmax(1) if pooling == "cls" else real.shape[1] - 1 - ends.argmax(1)
    return hidden[torch.arange(len(at), device=at.device), at]


class LlamaBidirectionalForSequenceClassification(LlamaPreTrainedModel):
    """Scores `(B, num_labels)`: pool the real tokens, apply a head without bias, divide by the temperature."""

    config_class = LlamaBidirectionalConfig

    def __init__(self, config: LlamaBidirectionalConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.model = LlamaBidirectionalModel(config)
        self.score = torch.nn.Linear(config.hidden_size, config.num_labels, bias=False)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, inputs_embeds=None, **kwargs):
        """Return the logits in float32."""
        kwargs = {key: value for key, value in kwargs.items() if key not in ("labels", "return_dict")}
        hidden = self.model(input_ids, attention_mask, inputs_embeds, **kwargs).last_hidden_state.float()
        if attention_mask is None:
            attention_mask = hidden.new_ones(hidden.shape[:2], dtype=torch.long)
        pooled = pool(hidden, attention_mask, self.config.pooling)
        logits = torch.nn.functional.linear(pooled, self.score.weight.float()) / self.config.temperature
        return SequenceClassifierOutput(logits=logits)
