"""Tiny decoders with random weights, written without crossrank.

`save_tiny_backbone` writes a causal language model as it lies on the hub. Kinds: `llama` like Llama 3.2 1B (tied
embeddings, two query heads a key head, rope scaling llama3), `llama-untied` like 3.1 8B, and `mistral`, `ministral`,
`ministral3`, `qwen2`, `qwen3`, which have sliding windows of 4 tokens. `save_tiny_reranker` puts a head on such a body,
in the layout of nvidia/llama-nemotron-rerank-1b-v2.
"""

import json
from functools import cache

BOS, EOS = "<|begin_of_text|>", "<|end_of_text|>"
KINDS = ("llama", "llama-untied", "mistral", "ministral", "ministral3", "qwen2", "qwen3")
_SENTENCES = (
    "question:how much protein should a female eat? \n \n passage:The average requirement is 46 grams per day.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "The highest point of a mountain : the top of a mountain. To reset the password, open the settings.",
)


def save_tiny_backbone(folder, kind, *, dtype):
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(decoder_config(kind)).to(getattr(torch, dtype)).save_pretrained(folder)
    decoder_tokenizer(kind).save_pretrained(folder)


def save_tiny_reranker(folder, kind, *, backbone, pooling, temperature):
    import torch
    from safetensors.torch import load_file, save_file

    tensors = load_file(backbone / "model.safetensors")
    tensors.pop("lm_head.weight", None)
    torch.manual_seed(1)
    tensors["score.weight"] = torch.randn(1, 32).to(tensors["model.norm.weight"].dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    base = kind.partition("-")[0]
    published = {
        "model_type": f"{base}_bidirec",
        "architectures": [f"{base.capitalize()}BidirectionalForSequenceClassification"],
        "auto_map": {"AutoConfig": "llama_bidirectional_model.LlamaBidirectionalConfig"},
        "id2label": {"0": "LABEL_0"},
        "pooling": pooling,
        "temperature": temperature,
    }
    config = json.loads((backbone / "config.json").read_text()) | published
    (folder / "config.json").write_text(json.dumps(config))
    decoder_tokenizer(kind).save_pretrained(folder)


def decoder_config(kind):
    from transformers import AutoConfig

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 64, "head_dim": 8, "vocab_size": 320, "max_position_embeddings": 131072}
    common = {"initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
    scaling = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    match kind:
        case "llama":
            special = {"rope_parameters": scaling, "tie_word_embeddings": True}
        case "llama-untied":
            special = {"tie_word_embeddings": False}
        case "mistral" | "ministral":
            special = {"sliding_window": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
        case "ministral3":  # scales queries beyond the positions of its training, which none of the tests reaches
            rope = {"rope_type": "default", "rope_theta": 10000.0, "llama_4_scaling_beta": 0.1}
            special = {"sliding_window": 4, "rope_parameters": rope | {"original_max_position_embeddings": 16384}}
        case "qwen2" | "qwen3":
            special = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    return AutoConfig.for_model(kind.partition("-")[0], **sizes, **common, **special)


@cache
def decoder_tokenizer(kind):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=[BOS, EOS], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    if kind.startswith("qwen"):  # no special tokens around a text
        model = json.loads(tokenizer.to_str())["model"]
        merges = [tuple(merge) for merge in model["merges"]]
        return Qwen2Tokenizer(vocab=model["vocab"], merges=merges, model_max_length=131072)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, padding_side="left", model_max_length=131072
    )
