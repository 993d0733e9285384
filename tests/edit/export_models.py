"""Small models of every family and edits of every kind, for the tests of the export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor

from ssae_debias.activations import TextModel
from ssae_debias.edit import Affine, Composed, Edit, LatentEdit, Projection, spliced
from ssae_debias.edit.export import EXAMPLES

D = 32
_WIDE = {"hidden_size": D, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
_GROUPED = {**_WIDE, "num_key_value_heads": 2, "head_dim": 8}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", _WIDE),
    "roberta": ("RobertaForSequenceClassification", {**_WIDE, "max_position_embeddings": 64}),
    "distilbert": ("DistilBertForSequenceClassification", {"dim": D, "hidden_dim": 48, "n_layers": 3, "n_heads": 4}),
    "gpt2": ("GPT2LMHeadModel", {"n_embd": D, "n_layer": 3, "n_head": 4}),
    "gpt_neox": ("GPTNeoXForCausalLM", _WIDE),
    "gpt_neox_sequential": ("GPTNeoXForCausalLM", {**_WIDE, "use_parallel_residual": False}),
    "llama": ("LlamaForCausalLM", {**_GROUPED, "tie_word_embeddings": True}),
    "mistral": ("MistralForCausalLM", _GROUPED),
    "qwen3": ("Qwen3ForCausalLM", _GROUPED),
    "gemma": ("GemmaForCausalLM", _GROUPED),
    "gemma2": ("Gemma2ForCausalLM", _GROUPED),
}  # fmt: skip


def small(kind: str, seed: int = 0) -> TextModel:
    """A random model, large enough in its weights for an edit to matter, and a tokenizer of some English words."""
    name, values = CONFIGS[kind]
    architecture = getattr(transformers, name)
    torch.manual_seed(seed)
    config = architecture.config_class(
        **values, vocab_size=120, pad_token_id=0, bos_token_id=1, eos_token_id=2, initializer_range=0.2
    )
    return TextModel(architecture(config).eval(), _tokenizer(), f"small/{kind}")


def _tokenizer() -> transformers.PreTrainedTokenizerFast:
    words = sorted(set(" ".join(EXAMPLES).replace(".", " .").replace(",", " ,").split()))
    known = {word: place for place, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *words])}
    tokenizer = Tokenizer(WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]"
    )


def latents(d: int = D, mode: Any = "zero", m: int = 6, normalization: Any = "none") -> LatentEdit:
    encoder = torch.nn.functional.normalize(torch.randn(d, m), dim=0)
    value = None if mode == "zero" else torch.rand(m)
    return LatentEdit(
        encoder,
        0.1 * torch.randn(m),
        torch.full((m,), 0.02),
        encoder.T.clone(),
        mode,
        value,
        normalization,
    )


def projection(d: int = D, r: int = 3, strength: float = 1.0) -> Projection:
    return Projection.onto_complement_of(torch.randn(r, d), center=0.1 * torch.randn(d), strength=strength)


def affine(d: int = D) -> Affine:
    return Affine(0.3 * torch.randn(d, d) / d**0.5, torch.randn(d), 0.1 * torch.randn(d))


def composed(d: int = D) -> Composed:
    return Composed((latents(d), affine(d), projection(d)))


def batch(model: TextModel, n: int = 5, length: int = 12) -> dict[str, Tensor]:
    """Random tokens, padded to the right; no special ones among them."""
    ids = torch.randint(3, model.module.config.vocab_size, (n, length))
    mask = (torch.arange(length) < torch.arange(length, length - n, -1)[:, None]).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def main_output(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return model(**inputs)[0]


def live_output(model: TextModel, edits: Mapping[str, Edit], inputs: Mapping[str, Tensor]) -> Tensor:
    with spliced(model, edits):
        return main_output(model.module, inputs)


def gap(one: Tensor, other: Tensor) -> float:
    """Largest difference in units of the largest value."""
    return float((one.double() - other.double()).abs().max() / other.double().abs().max())
