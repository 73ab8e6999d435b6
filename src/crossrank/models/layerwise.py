"""bge-reranker-v2-minicpm-layerwise: a MiniCPM of the first generation with a head behind every layer from the eighth.

MiniCPM is Llama whose embeddings and residual branches are scaled by constants. The constants go into the weights, so
the body is the Llama of transformers, as deep as the layer whose head is read. Names and formulas are those of the
published configuration and its reference, FlagEmbedding.
"""

from __future__ import annotations

import math

import torch
from safetensors import safe_open
from transformers import LlamaConfig, LlamaModel

from crossrank.errors import CheckpointError
from crossrank.models.causal_lm import AnswerHead, LastTokenScorer
from crossrank.models.checkpoint import Checkpoint
from crossrank.models.weights import find_weight_files, load_from_tensors

_SIZES = (
    "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "hidden_act",
    "max_position_embeddings", "rms_norm_eps", "pad_token_id", "bos_token_id", "eos_token_id",
)  # fmt: skip
_CONSTANTS = ("scale_emb", "scale_depth", "dim_model_base", "hidden_size", "start_layer", "num_hidden_layers")
_EMBEDDINGS = "model.embed_tokens.weight"
_BRANCH_ENDS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def load_layerwise(checkpoint: Checkpoint, *, dtype: torch.dtype) -> LastTokenScorer:
    """Load the first `cutoff_layer` layers and the head behind them, in evaluation mode.

    Raises:
        CheckpointError: If its weights are missing, damaged or of another model.
    """
    config, depth = checkpoint.config, checkpoint.cutoff_layer
    assert depth is not None, "the family states that it has a cut-off"
    missing = [key for key in _CONSTANTS if not isinstance(config.get(key), int | float)]
    if missing:
        raise CheckpointError(f"{checkpoint.name}: config.json must state the numbers {', '.join(missing)}")
    stated = {key: config[key] for key in _SIZES if key in config}
    rope = {"rope_type": "default", "rope_theta": float(config.get("rope_theta", 10000.0))}
    llama = LlamaConfig(**stated, num_hidden_layers=depth, rope_parameters=rope, tie_word_embeddings=False)
    head = f"lm_head.{depth - config['start_layer']}.linear_head.weight"
    tensors = _read(checkpoint, depth=depth, head=head)
    row_1H = tensors.pop(head).float() * (config["dim_model_base"] / config["hidden_size"])
    if row_1H.shape != (1, config["hidden_size"]):
        raise CheckpointError(
            f"{checkpoint.name}: {head} must be one row of {config['hidden_size']}, not {row_1H.shape}"
        )
    branch_scale = config["scale_depth"] / math.sqrt(config["num_hidden_layers"])
    for name, tensor in tensors.items():
        if name == _EMBEDDINGS:
            tensors[name] = tensor.float() * config["scale_emb"]
        elif name.endswith(_BRANCH_ENDS):
            tensors[name] = tensor.float() * branch_scale
    named = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    body = load_from_tensors(LlamaModel, llama, named, dtype=dtype, where=checkpoint.name)
    return LastTokenScorer(body, AnswerHead(row_1H)).eval()


def _read(checkpoint: Checkpoint, *, depth: int, head: str) -> dict[str, torch.Tensor]:
    """Read the layers up to a depth and one head; the rest of the file stays where it is."""
    tensors = {}
    for file in find_weight_files(checkpoint.transformer_folder):
        with safe_open(file, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - not a mapping
                parts = name.split(".")
                is_deeper = parts[:2] == ["model", "layers"] and int(parts[2]) >= depth
                if name == head or (parts[0] == "model" and not is_deeper):
                    tensors[name] = opened.get_tensor(name)
    if head not in tensors:
        raise CheckpointError(f"{checkpoint.name}: the head {head} is missing, so every score would be random")
    return tensors
