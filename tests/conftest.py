"""Fixtures for every room: tiny checkpoints with random weights, in the layout that real ones have on the hub.

`tiny_checkpoint(kind)` returns a folder with `config.json`, `model.safetensors` and the tokenizer files. Kinds:
`bert`, `electra`, `roberta`, `xlm-roberta`, `deberta-v2`, `modernbert`, and the rarer `albert`, `camembert`, `deberta`,
`distilbert`, `ernie`, `gte`, `mpnet`, `nomic_bert`, `xlm-roberta-xl`: one label; `bert-two-labels`: labels `irrelevant`
and `relevant`; `modular`: sentence-transformers modules on ModernBERT. Hidden size 32, 2 layers, at most 128 tokens,
scores spread over about +-5. A folder is built once a session and shared: copy it (`shutil.copytree`) before changing
anything in it.

`reference_logits(folder, pairs)` is the plain float32 answer for the sequence-classification kinds: transformers, one
pair at a time, nothing clever. `hard_pairs` is a list of awkward pairs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tiny_vocabularies import unigram_vocabulary, wordpiece_vocabulary

# Models this small gain nothing from threads, and threads that wait for each other stall on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

MAX_LENGTH = 128

_SENTENCES = (
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "The capital of France is Paris, a city on the river Seine.",
    "A binary search halves the interval in every step and needs a sorted list.",
    "To reset the password, open the settings and choose the account page.",
    "Die Hauptstadt von Deutschland ist Berlin, und der Fluss heißt Spree.",
    "Bread needs flour, water, salt and yeast, and an hour of rest.",
    "How many people live in the city, and how large is the river?",
    "Which planet is known as the Red Planet?",
    "שלום עולם, מה שלומך היום?",
)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Build the tiny checkpoint of a kind, once a session."""

    @cache
    def build(kind: str) -> Path:
        folder = tmp_path_factory.mktemp(kind, numbered=False)
        if kind == "modular":
            _save_modular(folder)
        else:
            _save_sequence_classifier(kind, folder)
        return folder

    return build


@pytest.fixture(scope="session")
def tiny_language_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Callable[[str], Path]
) -> Callable[[str], Path]:
    """Build the tiny language model of a kind, once a session; the kinds are those of `tiny_language_models.py`.

    The kind `jina` is the tiny `xlm-roberta` under the names that jina-reranker-v2 has.
    """

    @cache
    def build(kind: str) -> Path:
        from tiny_language_models import save_as_jina, save_tiny_language_model

        folder = tmp_path_factory.mktemp(f"lm-{kind}", numbered=False)
        if kind == "jina":
            save_as_jina(tiny_checkpoint("xlm-roberta"), folder)
        else:
            save_tiny_language_model(kind, folder)
        return folder

    return build


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Build the tiny decoder of a kind, once a session; the kinds are those of `tiny_decoders.py`."""

    @cache
    def build(kind: str = "llama", dtype: str = "float32") -> Path:
        from tiny_decoders import save_tiny_backbone

        folder = tmp_path_factory.mktemp(f"backbone-{kind}")
        save_tiny_backbone(folder, kind, dtype=dtype)
        return folder

    return build


@pytest.fixture(scope="session")
def tiny_reranker(tmp_path_factory: pytest.TempPathFactory, tiny_backbone: Any) -> Callable[..., Path]:
    """Build the tiny bidirectional reranker of a kind, once a session."""

    @cache
    def build(kind: str = "llama", dtype: str = "float32", pooling: str = "avg", temperature: float = 0.5) -> Path:
        from tiny_decoders import save_tiny_reranker

        folder = tmp_path_factory.mktemp(f"reranker-{kind}")
        backbone = tiny_backbone(kind, dtype)
        save_tiny_reranker(folder, kind, backbone=backbone, pooling=pooling, temperature=temperature)
        return folder

    return build


@pytest.fixture(scope="session")
def hard_pairs() -> list[tuple[str, str]]:
    """Pairs of different lengths and scripts: empty, over-long, emoji, right to left, special tokens as text."""
    return [
        ("Which planet is known as the Red Planet?", "Mars is often referred to as the Red Planet."),
        ("Which planet is known as the Red Planet?", "Venus is often called Earth's twin."),
        ("capital of France", "Paris"),
        ("capital of France", ""),
        ("capital of France", "   \n\t "),
        ("reset the password", "Open the settings. " * 200),
        ("how to bake 🍞 bread?", "Bread 🥖 needs flour 👩‍🍳, water and yeast."),
        ("מה שלומך?", "שלום עולם, מה שלומך היום? " * 3),
        ("what is [SEP]?", "The tokens [CLS], </s> and <pad> are special [PAD]."),
        ("NUL", "a\x00b and \u200b zero width"),
        ("Fluss", "Die Hauptstadt von Deutschland ist Berlin, und der Fluss heißt Spree."),
    ]


@pytest.fixture(scope="session")
def reference_logits() -> Callable[[Path, Any], Any]:
    """Score pairs with transformers alone: `(folder, pairs) -> float32 (P, L)`."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    def score(folder: Path, pairs: list[tuple[str, str]]) -> Any:
        model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rows = []
        for query, document in pairs:
            # Lists, because transformers takes an empty second text for none when it is given bare.
            inputs = tokenizer(
                [query], [document], truncation="only_second", max_length=MAX_LENGTH, return_tensors="pt"
            )
            with torch.inference_mode():
                rows.append(model(**inputs).logits)
        return torch.cat(rows).numpy()

    return score


def _save_sequence_classifier(kind: str, folder: Path) -> None:
    import torch
    import transformers

    two_labels = kind == "bert-two-labels"
    kind = "bert" if two_labels else kind
    tokenizer = _train_tokenizer(kind)
    labels = ["irrelevant", "relevant"] if two_labels else ["LABEL_0"]
    config = _config(kind, tokenizer, id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)})
    torch.manual_seed(0)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    _spread(list(model.classifier.modules())[-1])
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _save_modular(folder: Path) -> None:
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
    from transformers import AutoModel

    tokenizer = _train_tokenizer("modernbert")
    torch.manual_seed(0)
    AutoModel.from_config(_config("modernbert", tokenizer)).save_pretrained(folder / "body")
    tokenizer.save_pretrained(folder / "body")
    scores = Dense(32, 1, activation_function=torch.nn.Identity(), module_output_name="scores")
    _spread(scores.linear)
    body = Transformer(str(folder / "body"), transformer_task="feature-extraction")
    head = [Pooling(32, "cls"), Dense(32, 32, activation_function=torch.nn.GELU()), LayerNorm(32), scores]
    model = CrossEncoder(modules=[body, *head], device="cpu", activation_fn=torch.nn.Identity())
    model.save_pretrained(str(folder), create_model_card=False)


def _spread(classifier: Any) -> None:
    """Scale the last layer so that the scores of random weights differ by whole numbers."""
    import torch

    with torch.no_grad():
        classifier.weight.normal_(0, 1.0)


def _config(kind: str, tokenizer: Any, **kwargs: Any) -> Any:
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    common = {"vocab_size": len(tokenizer), "initializer_range": 0.2, "pad_token_id": tokenizer.pad_token_id} | kwargs
    positions = {"max_position_embeddings": MAX_LENGTH}
    after_padding = {"max_position_embeddings": MAX_LENGTH + 1 + tokenizer.pad_token_id}
    match kind:
        case "bert":
            return transformers.BertConfig(**sizes, **common, **positions)
        case "electra" | "albert":
            return transformers.AutoConfig.for_model(kind, **sizes, **common, **positions, embedding_size=16)
        case "ernie" | "gte" | "nomic_bert":
            return transformers.AutoConfig.for_model(kind, **sizes, **common, **positions)
        case "roberta" | "camembert" | "xlm-roberta" | "xlm-roberta-xl":
            return transformers.AutoConfig.for_model(kind, **sizes, **common, **after_padding, type_vocab_size=1)
        case "deberta":
            return transformers.DebertaConfig(
                **sizes, **common, **positions, pooler_hidden_size=32, relative_attention=True,
                pos_att_type=["p2c", "c2p"], position_biased_input=False,
            )  # fmt: skip
        case "mpnet":
            return transformers.MPNetConfig(**sizes, **common, **after_padding)
        case "distilbert":
            return transformers.DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=64, **common, **positions)
        case "deberta-v2":
            return transformers.DebertaV2Config(
                **sizes, **common, **positions, pooler_hidden_size=32, type_vocab_size=0, relative_attention=True,
                position_buckets=16, pos_att_type=["p2c", "c2p"], share_att_key=True, norm_rel_ebd="layer_norm",
                position_biased_input=False,
            )  # fmt: skip
        case "modernbert":
            return transformers.ModernBertConfig(
                **sizes, **common, **positions, global_attn_every_n_layers=2, local_attention=16,
                classifier_pooling="mean", cls_token_id=tokenizer.cls_token_id, sep_token_id=tokenizer.sep_token_id,
                bos_token_id=tokenizer.cls_token_id, eos_token_id=tokenizer.sep_token_id,
            )  # fmt: skip
    raise ValueError(f"no tiny checkpoint of kind {kind!r}")


def _train_tokenizer(kind: str) -> Any:
    import transformers

    limit = {"model_max_length": MAX_LENGTH}
    match kind:
        case "bert" | "electra" | "distilbert" | "albert" | "ernie" | "nomic_bert" | "deberta":
            return transformers.BertTokenizer(
                vocab=wordpiece_vocabulary(_SENTENCES, _BERT_SPECIAL), model_max_length=512
            )
        case "mpnet":
            return transformers.MPNetTokenizer(
                vocab=wordpiece_vocabulary(_SENTENCES, ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]), **limit
            )
        case "roberta":
            vocab, merges = _train_bpe(_ROBERTA_SPECIAL)
            return transformers.RobertaTokenizer(vocab=vocab, merges=merges, **limit)
        case "xlm-roberta" | "xlm-roberta-xl" | "camembert" | "gte":
            return transformers.XLMRobertaTokenizer(vocab=unigram_vocabulary(_SENTENCES, _ROBERTA_SPECIAL), **limit)
        case "deberta-v2":
            return transformers.DebertaV2Tokenizer(vocab=unigram_vocabulary(_SENTENCES, _BERT_SPECIAL), **limit)
        case "modernbert":
            return _modernbert_tokenizer()
    raise ValueError(f"no tokenizer of kind {kind!r}")


_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def _train_bpe(special: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _modernbert_tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab, merges = _train_bpe(_BERT_SPECIAL)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=8192,
        model_input_names=["input_ids", "attention_mask"],
    )
