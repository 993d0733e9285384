"""From texts to what SAEs are trained on, and to the SAEs; and the means that neurons are set to.

Stores and checkpoints lie in the bench's folder, where a second run finds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from ssae_debias.activations import ActivationStore, read_tokens
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench
    from ssae_debias.recipe.schema import ShiftSpec

# tokens a shard: all sites of a shard are in memory at once
SHARD_TOKENS = 16_384


def build_store(bench: Bench, texts: list[str], sites: Sequence[str]) -> ActivationStore:
    """Activations of texts at all sites, in half precision: there are a dozen sites."""
    protocol = bench.recipe.protocol
    return ActivationStore.build(
        bench.home / "activations",
        bench.model,
        texts,
        sites,
        max_length=protocol.max_length,
        include_special=protocol.include_special,
        dtype="float16",
        shard_tokens=SHARD_TOKENS,
        verbose=bench.verbose,
    )


def sae_config(spec: ShiftSpec, init: SparseAutoencoder | None) -> SAEConfig:
    """How a GSAE is trained, or how an SSAE is fine-tuned from `init`: at its width, under the tilted risk."""
    return SAEConfig(
        d_sae=spec.d_sae if init is None else init.d_sae,
        k=spec.k,
        architecture=spec.architecture,
        l1_coefficient=spec.l1_coefficient,
        tilt=0.0 if init is None else spec.tilt,
        tilt_scale=spec.tilt_scale,
        epochs=spec.epochs,
    )


def trained(
    bench: Bench, store: ActivationStore, site: str, init: SparseAutoencoder | None, seed: int
) -> SparseAutoencoder:
    """A GSAE from scratch, or an SSAE fine-tuned from `init`."""
    sae = train_sae(
        store.at(site),
        sae_config(bench.recipe.shift, init),
        init=init,
        checkpoint_dir=bench.home / "saes",
        random_state=seed,
        device=bench.recipe.device,
        verbose=bench.verbose,
    ).cpu()  # stored activations are read on the CPU; edits and attribution move to the model
    sae.metadata |= {
        "model_name": bench.model.name,
        "hook_name": site,
        "context_size": bench.recipe.protocol.max_length,
    }
    return sae


def neuron_means(
    bench: Bench, rows: NDArray[np.int64], sites: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """Mean of each neuron over all tokens of some texts, special ones too: every token is edited."""
    totals: dict[str, torch.Tensor] = {}
    n = 0
    for batch in read_tokens(
        bench.model,
        [bench.task.texts[row] for row in rows],
        sites,
        max_length=bench.recipe.protocol.max_length,
        include_special=True,
    ):
        n += len(batch)
        for site, x in batch.activations.items():
            totals[site] = totals.get(site, torch.zeros(())) + x.sum(0, dtype=torch.float64).cpu()
    return {site: (totals[site] / n).float().numpy() for site in sites}
