"""The forward pass of a Llama-like reranker in plain torch, off the files alone: the independent reference.

Written from the published description: embed, then in every layer RMSNorm, attention over all real tokens (rotary
positions, grouped queries), RMSNorm, SwiGLU; a final RMSNorm, pooling, head, temperature. `causal=True` adds the mask
of a language model, as the control.
"""

import json
import math

import torch
import torch.nn.functional as F
from safetensors.torch import load_file


class PlainDecoder:
    def __init__(self, folder, *, causal=False, dtype=torch.float32):
        self.config = json.loads((folder / "config.json").read_text())
        tensors = load_file(folder / "model.safetensors")
        self.tensors = {name.removeprefix("model."): value.to(dtype) for name, value in tensors.items()}
        self.causal = causal

    def logits(self, input_ids, attention_mask=None):
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        rows = []
        for ids, real in zip(input_ids, mask.bool(), strict=True):
            hidden = self.hidden(ids[real])  # one row without its padding: nothing that a mask could get wrong
            pooled = {"avg": hidden.float().mean(0), "cls": hidden[0].float(), "last": hidden[-1].float()}
            rows.append(pooled[self.config.get("pooling", "avg")] @ self.tensors["score.weight"].float().T)
        return torch.stack(rows) / self.config.get("temperature", 1.0)

    def hidden(self, ids):
        x = self.tensors["embed_tokens.weight"][ids]
        cos, sin = self._rotations(len(ids), x.dtype)
        for layer in range(self.config["num_hidden_layers"]):
            x = x + self._attention(layer, self._norm(f"layers.{layer}.input_layernorm", x), cos, sin)
            h = self._norm(f"layers.{layer}.post_attention_layernorm", x)
            gate, up = self._linear(layer, "mlp.gate_proj", h), self._linear(layer, "mlp.up_proj", h)
            x = x + self._linear(layer, "mlp.down_proj", F.silu(gate) * up)
        return self._norm("norm", x)

    def _attention(self, layer, x, cos, sin):
        size = self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"]
        q, k, v = (self._linear(layer, f"self_attn.{n}_proj", x).unflatten(-1, (-1, size)) for n in "qkv")
        if f"layers.{layer}.self_attn.q_norm.weight" in self.tensors:
            q, k = (self._norm(f"layers.{layer}.self_attn.{n}_norm", t) for n, t in (("q", q), ("k", k)))
        q, k = (t * cos + torch.cat([-t[..., size // 2 :], t[..., : size // 2]], -1) * sin for t in (q, k))
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        weights = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(size)
        if self.causal:
            weights = weights.masked_fill(torch.ones(len(x), len(x)).triu(1).bool(), -torch.inf)
        weights = weights.float().softmax(-1).to(x.dtype)
        return self._linear(layer, "self_attn.o_proj", torch.einsum("hqk,khd->qhd", weights, v).flatten(1))

    def _rotations(self, length, dtype):
        rope = self.config.get("rope_scaling") or self.config.get("rope_parameters") or {}
        theta = self.config.get("rope_theta") or rope["rope_theta"]
        size = self.config.get("head_dim") or self.config["hidden_size"] // self.config["num_attention_heads"]
        frequencies = theta ** (-torch.arange(0, size, 2).double() / size)
        if rope.get("rope_type") == "llama3":
            frequencies = torch.stack([_llama3(f, rope) for f in frequencies])
        angles = torch.outer(torch.arange(length).double(), frequencies).repeat(1, 2)[:, None]
        return angles.cos().to(dtype), angles.sin().to(dtype)

    def _norm(self, name, x):
        scale = (x.float().pow(2).mean(-1, keepdim=True) + self.config["rms_norm_eps"]).rsqrt()
        return self.tensors[f"{name}.weight"] * (x.float() * scale).to(x.dtype)

    def _linear(self, layer, name, x):
        bias = self.tensors.get(f"layers.{layer}.{name}.bias")
        return F.linear(x, self.tensors[f"layers.{layer}.{name}.weight"], bias)


def _llama3(frequency, rope):
    """Long waves are slowed down by `factor`, short ones kept, those between blended."""
    wave = 2 * math.pi / frequency
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    if wave > old / low:
        return frequency / rope["factor"]
    if wave < old / high:
        return frequency
    share = (old / wave - low) / (high - low)
    return (1 - share) * frequency / rope["factor"] + share * frequency
