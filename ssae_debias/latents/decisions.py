"""What ties a person's decisions to the SAEs at hand: the fingerprint of a dictionary.

The file format itself is in `ssae_debias.decisions`, which needs no PyTorch; its names are given here too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import torch

from ssae_debias.decisions import Decision, Decisions, read_decisions, write_decisions

if TYPE_CHECKING:
    from ssae_debias.sae import SparseAutoencoder

__all__ = [
    "Decision",
    "Decisions",
    "checked",
    "fingerprint",
    "fingerprints",
    "read_decisions",
    "write_decisions",
]

_Other = TypeVar("_Other")


def fingerprint(sae: SparseAutoencoder) -> str:
    """Sixteen hexadecimal digits that tell one SAE's latents from another's.

    Of the sha256 over all tensors, with their names, types and shapes; metadata and training records do not count,
    nor the device, so that an SAE keeps its fingerprint through saving, loading and moving.

    Parameters
    ----------
    sae : SparseAutoencoder

    Examples
    --------
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> one, other = (SparseAutoencoder(8, SAEConfig(d_sae=32, k=4), random_state=seed) for seed in (0, 1))
    >>> len(fingerprint(one)), fingerprint(one) == fingerprint(other)
    (16, False)
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(sae.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        # `contiguous` first: W_enc lies column by column in memory, and a loaded one need not
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def fingerprints(saes: Mapping[str, SparseAutoencoder]) -> dict[str, str]:
    """The fingerprint of each site's SAE."""
    return {site: fingerprint(sae) for site, sae in saes.items()}


def checked(
    decisions: str | os.PathLike[str] | Decisions | _Other, saes: Mapping[str, SparseAutoencoder]
) -> Decisions | _Other:
    """Decisions that fit the SAEs at hand: a path is read, fingerprints are compared; anything else passes.

    Raises
    ------
    ValueError
        They were made about other SAEs.
    """
    if isinstance(decisions, str | os.PathLike):
        decisions = read_decisions(decisions)
    if isinstance(decisions, Decisions):
        asked = {site for site, _ in decisions.items if site in decisions.saes}
        decisions.check({site: fingerprint(saes[site]) for site in saes if site in asked})
    return decisions
