"""The model: where its activations are (sites), reading them, and keeping them on disk.

`load_model` gives a plain Hugging Face module with its tokenizer; `resolve_site` names a place in it;
`read_tokens` and `read_pooled` run it no further than the sites asked for; `ActivationStore` keeps per-token
activations in checked shards, so that a second run reads instead of computing.
"""

from ssae_debias.activations.bundled import minilm_path
from ssae_debias.activations.model import TextModel, load_model
from ssae_debias.activations.prefetching import prefetched
from ssae_debias.activations.reading import TokenBatch, read_pooled, read_tokens, resolve_sites, site_widths
from ssae_debias.activations.shuffling import shuffled_batches
from ssae_debias.activations.sites import (
    FAMILIES,
    Site,
    available_sites,
    resolve_site,
    site_tensor,
    with_site_tensor,
)
from ssae_debias.activations.store import ActivationStore, SiteActivations

__all__ = [
    "FAMILIES",
    "ActivationStore",
    "Site",
    "SiteActivations",
    "TextModel",
    "TokenBatch",
    "available_sites",
    "load_model",
    "minilm_path",
    "prefetched",
    "read_pooled",
    "read_tokens",
    "resolve_site",
    "resolve_sites",
    "shuffled_batches",
    "site_tensor",
    "site_widths",
    "with_site_tensor",
]
