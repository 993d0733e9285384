"""Sparse autoencoders: the dictionary, its training under tilted risk, its files.

`SparseAutoencoder` is the dictionary and `SAEConfig` how it is trained; `train_sae` trains one from scratch (a
GSAE) or specialises one (an SSAE); `reconstruction_metrics` says how faithful it is; `save_sae` and `load_sae`
keep it, the latter in any released format (`load_release` reads one dictionary a site), and `push_sae` shares it on
the Hugging Face hub. The objective's tilt lives in `tilted_risk`, what makes codes sparse in `sparsity`, and the two
ways to compute a step's gradients in `steps`.
"""

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.evaluation import fraction_of_variance_unexplained, reconstruction_metrics, tail_error
from ssae_debias.sae.formats import load_release, load_sae, push_sae, push_saes, save_sae
from ssae_debias.sae.sources import ActivationSource, ArraySource
from ssae_debias.sae.steps.training_step import Kernels
from ssae_debias.sae.tilted_risk import (
    effective_sample_size,
    hierarchical_tilted_risk,
    hierarchical_tilted_weights,
    tilted_risk,
    tilted_weights,
)
from ssae_debias.sae.training import train_sae

__all__ = [
    "ActivationSource",
    "ArraySource",
    "Kernels",
    "SAEConfig",
    "SparseAutoencoder",
    "effective_sample_size",
    "fraction_of_variance_unexplained",
    "hierarchical_tilted_risk",
    "hierarchical_tilted_weights",
    "load_release",
    "load_sae",
    "push_sae",
    "push_saes",
    "reconstruction_metrics",
    "save_sae",
    "tail_error",
    "tilted_risk",
    "tilted_weights",
    "train_sae",
]
