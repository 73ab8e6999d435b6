"""Tiny rerankers that read images, with random weights, in the layouts that the published ones have on the hub.

`save_tiny_nemotron_vl` writes SigLIP (4 by 4 patches of 8 pixels), projector and Llama as
nvidia/llama-nemotron-rerank-vl-1b-v2 names them; tiles of 32 pixels give 4 tokens each.
"""

import json
from functools import cache

SIDE, PATCH, HIDDEN, CHANNELS = 32, 8, 32, 24
IMAGE_TOKENS = ("<img>", "<IMG_CONTEXT>", "</img>")
_SENTENCES = (
    "question:how much protein should a female eat? \n \n passage:The average requirement is 46 grams per day.",
    "Revenue by quarter, in millions. Table 3: results of operations. How did sales develop?",
)


@cache
def nemotron_tokenizer():
    """As Llama 3's: byte level, BOS before every text; image tokens at the end of the vocabulary, out of order."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_SENTENCES * 3, trainer)
    tokenizer.add_special_tokens(["<|pad|>", "</img>", "<box>", "<img>", "<IMG_CONTEXT>", "<ref>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A $B", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|begin_of_text|>", eos_token="<|end_of_text|>", pad_token="<|pad|>"
    )


def nemotron_config(**changes):
    tokenizer = nemotron_tokenizer()
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": CHANNELS, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "image_size": SIDE, "patch_size": PATCH, "layer_norm_eps": 1e-6,
        "hidden_act": "gelu_pytorch_tanh",
    }  # fmt: skip
    language = {
        "model_type": "llama_bidirec", "architectures": ["LlamaBidirectionalModel"], "hidden_size": HIDDEN,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 64, "vocab_size": len(tokenizer), "max_position_embeddings": 131072,
        "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "pad_token_id": tokenizer.pad_token_id, "pooling": "avg",
        "rope_scaling": {
            "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    }  # fmt: skip
    config = {
        "model_type": "llama_nemotron_vl_rerank",
        "architectures": ["LlamaNemotronVLForSequenceClassification"],
        "auto_map": {"AutoModel": "modeling_llama_nemotron_vl.LlamaNemotronVLForSequenceClassification"},
        "vision_config": vision, "llm_config": language, "pooling": "avg", "temperature": 0.5, "max_input_tiles": 4,
        "prompt_template": "v1", "template": "bidirectional-llama-retriever", "ps_version": "v2",
        "dynamic_image_size": True, "use_thumbnail": True, "force_image_size": SIDE, "downsample_ratio": 0.5,
        "select_layer": -1, "img_context_token_id": tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        "torch_dtype": "bfloat16",
    }  # fmt: skip
    return config | changes


def save_tiny_nemotron_vl(folder, *, dtype="float32", **changes):
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaModel, SiglipVisionConfig, SiglipVisionModel

    config = nemotron_config(**changes)
    torch.manual_seed(0)
    language = LlamaModel(LlamaConfig.from_dict(config["llm_config"] | {"model_type": "llama"}))
    vision = SiglipVisionModel(SiglipVisionConfig.from_dict(config["vision_config"]))
    parts = {
        "model.language_model.": language.state_dict(),
        "model.vision_model.vision_model.": vision.state_dict(),
        "model.mlp1.": {
            "0.weight": torch.ones(4 * CHANNELS), "0.bias": torch.zeros(4 * CHANNELS),
            "1.weight": torch.randn(HIDDEN, 4 * CHANNELS) * 0.2, "1.bias": torch.randn(HIDDEN) * 0.1,
            "3.weight": torch.randn(HIDDEN, HIDDEN) * 0.5, "3.bias": torch.randn(HIDDEN) * 0.1,
        },
    }  # fmt: skip
    tensors = {start + name: tensor for start, part in parts.items() for name, tensor in part.items()}
    # Wider than transformers' own draw, so that what is in an image or a text moves the score.
    tensors = {name: _wider(name, tensor).to(getattr(torch, dtype)) for name, tensor in tensors.items()}
    tensors["score.weight"] = torch.randn(1, HIDDEN)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "processor_config.json").write_text(json.dumps({"num_image_token": 4, "prompt_template": "v1"}))
    nemotron_tokenizer().save_pretrained(folder)


def save_tiny_nemotron_embedding(folder, **changes):
    """Write a bi-encoder as nvidia/llama-nemotron-embed-vl-1b-v2 lies on the hub: no head, no `model.` before names."""
    from safetensors.torch import load_file, save_file

    stated = {"model_type": "llama_nemotron_vl", "architectures": ["LlamaNemotronVLModel"]}
    save_tiny_nemotron_vl(folder, **stated | changes)
    tensors = load_file(folder / "model.safetensors")
    del tensors["score.weight"]
    named = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    processor = {"num_image_token": 4, "query_prefix": "query:", "passage_prefix": "passage:", "q_max_length": 64}
    (folder / "processor_config.json").write_text(json.dumps(processor))


def _wider(name, tensor):
    import torch

    if tensor.ndim < 2 or "mlp1" in name:
        return tensor.clone()
    return torch.randn(tensor.shape) * 0.2


QWEN_SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
]  # fmt: skip


def save_tiny_qwen_vl(kind, folder):
    """Write `jina`, `qwen2` (the base of MonoQwen2-VL) or `qwen3`, with the names of published weights."""
    import torch
    from safetensors.torch import save_file

    from tiny_language_models import train_byte_level

    tokenizer = train_byte_level(QWEN_SPECIAL)
    ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("image_pad", "video_pad", "vision_start")}
    tokens = {
        "image_token_id": ids["image_pad"], "video_token_id": ids["video_pad"],
        "vision_start_token_id": ids["vision_start"],
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }  # fmt: skip
    torch.manual_seed(0)
    model = _qwen3_vl(len(tokenizer), tokens) if kind == "qwen3" else _qwen2_vl(len(tokenizer), tokens)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    folder.mkdir(exist_ok=True)
    config = model.config.to_dict()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if kind == "jina":
        config |= {"architectures": ["JinaVLForRanking"], "auto_map": {"AutoModel": "modeling.JinaVLForRanking"}}
        tensors = {_before_4_52(name): tensor for name, tensor in tensors.items() if name != "lm_head.weight"}
        for name, shape in (("0.weight", (32, 32)), ("0.bias", (32,)), ("2.weight", (1, 32)), ("2.bias", (1,))):
            tensors[f"score.{name}"] = torch.randn(shape)
    else:
        config["architectures"] = [type(model).__name__]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer.save_pretrained(folder)


def save_tiny_monoqwen(folder, base):
    """Write a LoRA adapter as `lightonai/MonoQwen2-VL-v0.1` is: its weights are named as before transformers 4.52."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    stated = {"peft_type": "LORA", "base_model_name_or_path": str(base), "r": 4, "lora_alpha": 4, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(stated | {"target_modules": targets, "task_type": None}))
    sizes = {"q_proj": (32, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 32)}
    sizes |= {"gate_proj": (64, 32), "up_proj": (64, 32), "down_proj": (32, 64)}
    torch.manual_seed(1)
    tensors = {}
    for layer in range(2):
        for target, (rows, columns) in sizes.items():
            part = "self_attn" if target in ("q_proj", "k_proj", "v_proj", "o_proj") else "mlp"
            start = f"base_model.model.model.layers.{layer}.{part}.{target}"
            tensors[f"{start}.lora_A.weight"] = torch.randn(4, columns) * 0.1
            tensors[f"{start}.lora_B.weight"] = torch.randn(rows, 4) * 0.1
    save_file(tensors, folder / "adapter_model.safetensors")


def _before_4_52(name):
    if name.startswith("model.visual."):
        return name.removeprefix("model.")
    return name.replace("model.language_model.", "model.")


def _text_config(vocab_size, **more):
    return {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "intermediate_size": 64, "vocab_size": vocab_size, "max_position_embeddings": 32768, "bos_token_id": None,
        "eos_token_id": None, "pad_token_id": None, **more,
    }  # fmt: skip


def _qwen2_vl(vocab_size, tokens):
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "mlp_ratio": 2, "patch_size": 14}
    text = _text_config(vocab_size, rope_parameters=rope)
    return Qwen2VLForConditionalGeneration(
        Qwen2VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **tokens)
    ).eval()


def _qwen3_vl(vocab_size, tokens):
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    vision = {
        "depth": 2, "hidden_size": 32, "num_heads": 4, "intermediate_size": 64, "out_hidden_size": 32, "patch_size": 16,
        "deepstack_visual_indexes": [0, 1], "num_position_embeddings": 64,
    }  # fmt: skip
    text = _text_config(vocab_size, rope_parameters=rope, head_dim=8)
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **tokens)
    ).eval()
