"""Tiny language models with random weights, in the layouts of published rerankers; see `tiny_language_model`.

Kinds: `qwen3` (tied embeddings), `qwen3-untied`, `qwen3-seq-cls`, `qwen2`, `gemma`, `llama` (rope scaling `llama3`),
`logit-score` (Qwen3 with `modules.json` and a chat template), `t5` (tied, scaled), `mt5` (untied). All decoders
have grouped-query attention. Hidden size 32, 2 layers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny_vocabularies import unigram_vocabulary

SENTENCES = (
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.\n",
    "The capital of France is Paris, a city on the river Seine. Query: query: document: Document: Relevant: Relevance:",
    "To reset the password, open the settings and choose the account page. A: B:\n",
    'Judge whether the Document meets the requirements. Note that the answer can only be "yes" or "no".\n',
    "Given a query A and a passage B, determine whether the passage contains an answer by 'Yes' or 'No'.",
    "You are a search relevance expert, judge binary relevance (0 for not relevant, 1 for relevant).\nRelevance:",
    "Check whether a given document contains information helpful to answer the query.\n<Document> <Query> ??",
    "<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n<Query>: \n<Document>: ",
    "system\nuser\nassistant\nno yes Yes 1 0 instruction: true false sim não",
)
# The split of Qwen2's tokenizer: punctuation takes the newline behind it, so pieces joined first merge otherwise.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "intermediate_size": 64, "max_position_embeddings": 4096, "initializer_range": 0.3,
}  # fmt: skip
CHAT_TEMPLATE = (
    "<|im_start|>system\nJudge the Document.<|im_end|>\n<|im_start|>user\n<Instruct>: "
    "{{ messages | selectattr('role', 'eq', 'system') | map(attribute='content') | first | default('find answers') }}\n"
    "<Query>: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}\n"
    "<Document>: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') | first }}"
    "<|im_end|>\n<|im_start|>assistant\n"
)


def save_tiny_language_model(kind: str, folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    match kind:
        case "t5" | "mt5":
            _save_t5(kind, folder)
        case "logit-score":
            _save_logit_score(folder)
        case _:
            _save_decoder(kind, folder)


def train_byte_level(special: list[str], **named: str) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    # Token 0 is a letter of the text, as in the published vocabularies; special tokens come behind it.
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(SENTENCES * 3, trainer)
    tokenizer.add_special_tokens(special)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{"pad_token": special[0], "eos_token": special[0]} | named
    )


def _save_decoder(kind: str, folder: Path) -> None:
    import torch
    import transformers

    if kind == "gemma":
        tokenizer = train_byte_level(["<pad>", "<bos>"], bos_token="<bos>")
    else:
        tokenizer = train_byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    common = _SIZES | {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    match kind:
        case "qwen3" | "qwen3-untied" | "qwen3-seq-cls":
            config = transformers.Qwen3Config(**common, tie_word_embeddings=kind == "qwen3", num_labels=1)
        case "qwen2":
            config = transformers.Qwen2Config(**common, tie_word_embeddings=False)
        case "gemma":
            config = transformers.GemmaConfig(
                **common | {"num_key_value_heads": 1}, bos_token_id=tokenizer.bos_token_id
            )
        case "llama":
            scaling = {
                "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            }  # fmt: skip
            config = transformers.LlamaConfig(**common, rope_parameters=scaling, tie_word_embeddings=False)
        case _:
            raise ValueError(f"no tiny language model of kind {kind!r}")
    if kind == "qwen3-seq-cls":
        model = transformers.Qwen3ForSequenceClassification(config)
        with torch.no_grad():
            model.score.weight.normal_(0, 1.0)
    else:
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_logit_score(folder: Path) -> None:
    _save_decoder("qwen3-untied", folder)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    message = {"method": "forward", "method_output_name": "logits"}
    _write(
        folder / "sentence_bert_config.json",
        {
            "transformer_task": "text-generation",
            "modality_config": {"text": message, "message": message | {"format": "flat"}},
            "module_output_name": "causal_logits",
        },
    )
    modules = ("base.modules.transformer.Transformer", "cross_encoder.modules.logit_score.LogitScore")
    _write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": "1_LogitScore" if i else "", "type": f"sentence_transformers.{name}"}
            for i, name in enumerate(modules)
        ],
    )
    yes, no = tokenizer.convert_tokens_to_ids(["yes", "no"])
    (folder / "1_LogitScore").mkdir()
    _write(
        folder / "1_LogitScore" / "config.json",
        {"true_token_id": yes, "false_token_id": no, "module_input_name": "causal_logits"},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            "activation_fn": "torch.nn.modules.linear.Identity",
            "default_prompt_name": "query",
            "model_type": "CrossEncoder",
            "prompts": {"query": "retrieve passages"},
        },
    )


def _save_t5(kind: str, folder: Path) -> None:
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    pieces = unigram_vocabulary(SENTENCES, ["<pad>", "</s>", "<unk>"])
    known = {piece for piece, _ in pieces}
    pieces += [(word, -9.0) for word in ("▁true", "▁false", "▁yes", "▁no", "▁sim", "▁não") if word not in known]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    sizes = {
        "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": len(fast),
        "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    if kind == "t5":
        model = transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes, initializer_factor=1.0))
    else:
        config = transformers.MT5Config(**sizes, initializer_factor=1.0, feed_forward_proj="gated-gelu")
        model = transformers.MT5ForConditionalGeneration(config)
        model.lm_head.weight = type(model.lm_head.weight)(model.lm_head.weight.detach().flip(0) * 1.5)
    model.eval().save_pretrained(folder)
    fast.save_pretrained(folder)


def save_as_jina(native: Path, folder: Path) -> None:
    """Write a tiny XLM-RoBERTa as jinaai/jina-reranker-v2-base-multilingual is: other names, no `model_type`."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    names = (
        ("embeddings.LayerNorm", "emb_ln"), ("encoder.layer.", "encoder.layers."), ("intermediate.dense", "mlp.fc1"),
        ("attention.output.dense", "mixer.out_proj"), ("attention.output.LayerNorm", "norm1"),
        ("output.dense", "mlp.fc2"), ("output.LayerNorm", "norm2"),
    )  # fmt: skip
    state = load_file(native / "model.safetensors")
    published = {}
    for name, tensor in state.items():
        if ".self.query." in name:
            tensor = torch.cat([state[name.replace("query", part)] for part in ("query", "key", "value")])
            name = name.replace("attention.self.query", "mixer.Wqkv")
        elif ".self." in name:
            continue
        for ours, theirs in names:
            name = name.replace(ours, theirs)
        published[name] = tensor.contiguous()
    for file in native.glob("*token*"):
        shutil.copy(file, folder / file.name)
    save_file(published, folder / "model.safetensors")
    stated = json.loads((native / "config.json").read_text())
    dropped = ("model_type", "transformers_version", "dtype")
    auto_map = {"AutoModelForSequenceClassification": "modeling_xlm_roberta.XLMRobertaForSequenceClassification"}
    config = {key: value for key, value in stated.items() if key not in dropped}
    _write(folder / "config.json", config | {"auto_map": auto_map, "use_flash_attn": True})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2))
