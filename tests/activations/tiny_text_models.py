"""Tiny randomly initialised models of every supported family, with a word tokenizer to match."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoModel, PreTrainedTokenizerFast

from ssae_debias.activations import TextModel, load_model

NOUNS = ["nurse", "surgeon", "doctor", "city", "day", "night", "care"]
WORDS = [*NOUNS, "she", "he", "is", "was", "a", "the", "who", "works", "in", "and", "long", "at", "with"]
TEXTS = (
    "she is a nurse who works in the city",
    "he was a surgeon",
    "the doctor works at night and she is with the nurse in the long day",
    "care",
    "a long long long day with care",
)
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
VOCABULARY = len(SPECIAL) + len(WORDS)

_ENCODER = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 130,
}
_DECODER = {**_ENCODER, "num_key_value_heads": 1, "head_dim": 8}

# family → (config class, its settings); every one has three blocks and d = 16
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", _ENCODER),
    "roberta": ("RobertaConfig", _ENCODER),
    "xlm-roberta": ("XLMRobertaConfig", _ENCODER),
    "electra": ("ElectraConfig", {**_ENCODER, "embedding_size": 8}),
    "mpnet": ("MPNetConfig", _ENCODER),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 16, "n_heads": 2, "hidden_dim": 24, "n_layers": 3, "max_position_embeddings": 130},
    ),
    "gpt_neox": ("GPTNeoXConfig", {**_ENCODER, "use_parallel_residual": True}),
    "gpt_neox sequential": ("GPTNeoXConfig", {**_ENCODER, "use_parallel_residual": False}),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_head": 2, "n_layer": 3, "n_positions": 130}),
    "llama": ("LlamaConfig", _DECODER),
    "mistral": ("MistralConfig", _DECODER),
    "qwen2": ("Qwen2Config", {k: v for k, v in _DECODER.items() if k != "head_dim"}),
    "qwen3": ("Qwen3Config", _DECODER),
    "gemma": ("GemmaConfig", _DECODER),
    "gemma2": ("Gemma2Config", {**_DECODER, "query_pre_attn_scalar": 8}),
    "gemma3_text": ("Gemma3TextConfig", {**_DECODER, "query_pre_attn_scalar": 8}),
}
ENCODERS = ("bert", "roberta", "xlm-roberta", "electra", "mpnet", "distilbert")

each_family = pytest.mark.parametrize("family", CONFIGS)
each_encoder = pytest.mark.parametrize("family", ENCODERS)
each_decoder = pytest.mark.parametrize("family", [name for name in CONFIGS if name not in ENCODERS])


def word_tokenizer(template: str) -> PreTrainedTokenizerFast:
    backend = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    named: dict[str, str] = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if template != "$A":
        backend.post_processor = processors.TemplateProcessing(
            single=template, special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    if "</s>" in template:
        named |= {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **named)


def tiny_config(family: str, **settings: Any) -> Any:
    name, own = CONFIGS[family]
    common = {"vocab_size": VOCABULARY, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    layers = {} if {"n_layer", "n_layers"} & own.keys() else {"num_hidden_layers": 3}
    return getattr(transformers, name)(**{**common, **layers, **own, **settings})


def _template(family: str) -> str:
    if family in ENCODERS:
        return "<s> $A </s>"
    return "$A" if family.startswith("gpt") else "<s> $A"


def make_tiny_model(
    family: str, *, model_class: Any = AutoModel, seed: int = 0, **settings: Any
) -> TextModel:
    """A model by family, optionally with other config settings or another model class."""
    torch.manual_seed(seed)
    config = tiny_config(family, **settings)
    module = model_class.from_config(config) if model_class is AutoModel else model_class(config)
    with torch.no_grad():
        for parameter in module.parameters():
            # the default initialisation is so small that blocks add next to nothing to the stream
            parameter.normal_(0, 0.3)
    return load_model(module, tokenizer=word_tokenizer(_template(family)))
