"""Families that a checkpoint's `config.json` cannot tell: language models that answer, and files with other names.

They are stated with `family=`, in `crossrank.json`, by `modules.json`, or by an exact name on the hub (`published.py`).
"""

from __future__ import annotations

from crossrank.encoding.template import SequenceTemplate
from crossrank.models.family import Family

LOGIT_SCORE_FAMILY = "logit_score"
# How classes of language models end: nothing in their `config.json` says that one is a reranker.
LANGUAGE_MODEL_SUFFIXES = ("ForCausalLM", "ForConditionalGeneration", "ForRanking")
# Language models of transformers whose logits are the plain product of the last hidden state and `lm_head`.
PLAIN_CAUSAL_LMS = (
    "GemmaForCausalLM",
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)

# Source: the model card of Qwen/Qwen3-Reranker-0.6B, variant for transformers.
_QWEN3 = SequenceTemplate(
    pieces=(
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n',
        "<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {document}",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    without_instruction="Given a web search query, retrieve relevant passages that answer the query",
)
# Stands for the token with which the tokenizer begins a text; without such a token, or if it also pads, for nothing.
BOS_PIECE = "{bos}"
# Source: FlagEmbedding, inference/reranker/decoder_only.
_BGE_PROMPT = (
    "Given a query A and a passage B, determine whether the passage contains an answer to the query by providing a "
    "prediction of either 'Yes' or 'No'."
)
_BGE = SequenceTemplate(pieces=(BOS_PIECE, "A: {query}", "\n", "B: {document}", "\n", _BGE_PROMPT), query_share=0.75)
# Source: mixedbread-ai/mxbai-rerank, mxbai_rerank_v2.py.
_MXBAI_V2 = SequenceTemplate(
    pieces=(
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\n",
        "{instruction}query: {query}",
        "\n",
        "document: {document}",
        "\n",
        "You are a search relevance expert who evaluates how well documents match search queries. For each "
        "query-document pair, carefully analyze the semantic relationship between them, then provide your binary "
        "relevance judgment (0 for not relevant, 1 for relevant).\nRelevance:",
        "<|im_end|>\n<|im_start|>assistant\n",
    ),
    instruction="instruction: {instruction}\n",
    query_share=0.75,
)
# Source: the model card of ContextualAI/ctxl-rerank-v2-instruct-multilingual-1b.
_CTXL_V2 = SequenceTemplate(
    pieces=(
        "Check whether a given document contains information helpful to answer the query.\n<Document> {document}\n"
        "<Query> {query}{instruction} ??",
    ),
    instruction=" {instruction}",
    special_tokens=True,
)
# Source: castorini/pygaggle; Nogueira et al., "Document Ranking with a Pretrained Sequence-to-Sequence Model" (2020).
_MONOT5 = SequenceTemplate(pieces=("Query: {query} Document: {document} Relevant:",), special_tokens=True)


LANGUAGE_MODEL_FAMILIES: tuple[Family, ...] = (
    Family(
        LOGIT_SCORE_FAMILY,
        (),
        PLAIN_CAUSAL_LMS,
        "causal LMs in the layout of sentence-transformers: modules.json with LogitScore, and a chat template",
        "last position -> logit(true_token_id) - logit(false_token_id), if there is one",
        layout="causal-lm",
        pooling="last",
        reads_segments=False,
    ),
    Family(
        "qwen3_reranker",
        (),
        ("Qwen3ForCausalLM",),
        "Qwen3-Reranker, as published",
        "last position -> logit(yes) - logit(no)",
        layout="causal-lm",
        pooling="last",
        reads_segments=False,
        template=_QWEN3,
        answers=("yes", "no"),
        max_length=8192,
        licence="Apache-2.0",
    ),
    Family(
        "qwen3_reranker_seq_cls",
        (),
        ("Qwen3ForSequenceClassification",),
        "Qwen3-Reranker, converted to a classifier; prompted as the original",
        "last position -> score (one row)",
        layout="decoder",
        pooling="last",
        reads_segments=False,
        template=_QWEN3,
        max_length=8192,
        licence="Apache-2.0",
    ),
    Family(
        "bge_reranker_gemma",
        (),
        ("GemmaForCausalLM",),
        "bge-reranker-v2-gemma",
        "last position -> logit(Yes)",
        layout="causal-lm",
        pooling="last",
        reads_segments=False,
        template=_BGE,
        answers=("Yes",),
        max_length=1024,
        licence="Apache-2.0 (the terms of Gemma may apply as well)",
    ),
    Family(
        "bge_reranker_minicpm",
        (),
        ("LayerWiseMiniCPMForCausalLM",),
        "bge-reranker-v2-minicpm-layerwise; cutoff_layer says how many layers are computed",
        "last position of layer k -> norm -> head k",
        layout="layerwise",
        pooling="last",
        reads_segments=False,
        template=_BGE,
        max_length=1024,
        licence="Apache-2.0",
    ),
    Family(
        "mxbai_rerank_v2",
        (),
        ("Qwen2ForCausalLM",),
        "mxbai-rerank-base-v2 and -large-v2",
        "last position -> logit(1) - logit(0)",
        layout="causal-lm",
        pooling="last",
        reads_segments=False,
        template=_MXBAI_V2,
        answers=("1", "0"),
        max_length=8192,
        licence="Apache-2.0",
    ),
    Family(
        "ctxl_rerank_v2",
        (),
        ("Qwen3ForCausalLM",),
        "ctxl-rerank-v2-instruct-multilingual, 1b and 2b",
        "last position -> logit of token 0",
        layout="causal-lm",
        pooling="last",
        reads_segments=False,
        template=_CTXL_V2,
        answers=(0,),
        max_length=8192,
        activation="identity",
        licence="CC-BY-NC-SA-4.0",
        non_commercial=True,
    ),
    Family(
        "monot5",
        (),
        ("T5ForConditionalGeneration",),
        "monoT5, trained on English",
        "first decoder step -> logit(true) - logit(false)",
        layout="seq2seq",
        pooling=None,
        reads_segments=False,
        template=_MONOT5,
        answers=("▁true", "▁false"),
        max_length=512,
        licence="Apache-2.0",
    ),
    Family(
        "monot5_mt5",
        (),
        ("MT5ForConditionalGeneration",),
        "monoT5 on mT5 (unicamp-dl), multilingual",
        "first decoder step -> logit(yes) - logit(no)",
        layout="seq2seq",
        pooling=None,
        reads_segments=False,
        template=_MONOT5,
        answers=("▁yes", "▁no"),
        max_length=512,
    ),
    Family(
        "monot5_ptt5",
        (),
        ("T5ForConditionalGeneration",),
        "monoT5 on PTT5 (unicamp-dl), Portuguese",
        "first decoder step -> logit(sim) - logit(não)",
        layout="seq2seq",
        pooling=None,
        reads_segments=False,
        template=_MONOT5,
        answers=("▁sim", "▁não"),
        max_length=512,
    ),
    Family(
        "jina_reranker_v2",
        (),
        ("XLMRobertaForSequenceClassification",),
        "jina-reranker-v2-base-multilingual: XLM-RoBERTa under other names of its weights",
        "<s> -> dense, tanh -> out_proj",
        layout="renamed",
        reads_segments=False,
        positions_after_padding=True,
        pad_token_id=1,
        licence="CC-BY-NC-4.0",
        non_commercial=True,
    ),
)
