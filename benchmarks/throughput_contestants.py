"""Who takes part in train_throughput.py: for each, how it is set up, how it steps, and how it reconstructs.

Every contestant trains a TopK SAE of the same size on the same batches with Adam at the same constant rate (the
peers' clipping, dead-latent bookkeeping and normalisation are left as each has them). Peers that are not installed
are left out by name.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LR = 1e-3


@dataclass(frozen=True)
class Size:
    """What is trained."""

    d_in: int
    d_sae: int
    k: int
    batch: int
    steps: int


@dataclass(frozen=True)
class Contestant:
    """One training step on a batch, and the reconstruction as the trained SAE gives it."""

    step: Callable[[Tensor], Any]
    reconstruct: Callable[[Tensor], Tensor]


def dense(size: Size) -> Contestant:
    """The loop that one would write first: dense codes, autograd, float32."""
    from ssae_debias.sae import SAEConfig, SparseAutoencoder
    from ssae_debias.sae.optimizer import UnitNormAdam
    from ssae_debias.sae.sparsity import topk

    sae = SparseAutoencoder(size.d_in, SAEConfig(d_sae=size.d_sae, k=size.k))
    optimizer = UnitNormAdam(sae)

    def reconstruct(x: Tensor) -> Tensor:
        return sae.decode(topk(sae.pre_activations(x), size.k))

    def step(x: Tensor) -> None:
        sae.zero_grad(set_to_none=True)
        (x - reconstruct(x)).square().sum(1).mean().backward()
        optimizer.step(LR)

    return Contestant(step, reconstruct)


def ours(size: Size, **settings: Any) -> Contestant:
    """ssae-debias, by the trainer that `train_sae` uses."""
    from ssae_debias.sae import SAEConfig, SparseAutoencoder
    from ssae_debias.sae.sparsity import batch_topk, topk
    from ssae_debias.sae.trainer import Trainer

    fields = {"architecture": "topk", "lr": LR, "warmup_fraction": 0.0, "decay_fraction": 0.0, **settings}
    config = SAEConfig(d_sae=size.d_sae, k=size.k, batch_size=size.batch, **fields)
    sae = SparseAutoencoder(size.d_in, config)
    trainer = Trainer(sae, n_tokens=10**9, unit=1.0)
    select = topk if config.architecture == "topk" else batch_topk

    def reconstruct(x: Tensor) -> Tensor:
        return sae.decode(select(sae.pre_activations(x), size.k))

    return Contestant(trainer.train_on, reconstruct)


def ours_batchtopk(size: Size) -> Contestant:
    """The default architecture."""
    return ours(size, architecture="batchtopk")


def ours_tilted(size: Size) -> Contestant:
    """TERM instead of the mean."""
    return ours(size, tilt=0.3)


def sae_lens(size: Size) -> Contestant:
    """SAELens with its defaults for TopK."""
    from sae_lens import SAETrainer, TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig

    config = TopKTrainingSAEConfig(k=size.k, d_in=size.d_in, d_sae=size.d_sae, device="cpu")
    sae = TopKTrainingSAE(config)
    training = SAETrainerConfig(
        total_training_samples=size.batch * 10**6,
        train_batch_size_samples=size.batch,
        lr=LR,
        lr_end=LR,
        device="cpu",
    )
    trainer = SAETrainer(cfg=training, sae=sae, data_provider=iter(()))

    def step(x: Tensor) -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    return Contestant(step, lambda x: sae.decode(sae.encode(x)))


def dictionary_learning(size: Size) -> Contestant:
    """dictionary_learning's TopKTrainer."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=10**6, activation_dim=size.d_in, dict_size=size.d_sae, k=size.k, layer=0, lm_name="none", lr=LR,
        warmup_steps=0, seed=0, device="cpu",
    )  # fmt: skip
    number = iter(range(10**9))
    return Contestant(lambda x: trainer.update(next(number), x), lambda x: trainer.ae(x))


def sparsify(size: Size) -> Contestant:
    """EleutherAI's sparsify: its sparse coder, and the steps of its training loop around it."""
    from sparsify import SparseCoder, SparseCoderConfig, sparse_coder
    from sparsify.utils import eager_decode

    # what it takes by itself where Triton is not installed: Triton's kernels need a GPU
    sparse_coder.decoder_impl = eager_decode
    torch.manual_seed(0)
    coder = SparseCoder(size.d_in, SparseCoderConfig(num_latents=size.d_sae, k=size.k))
    optimizer = torch.optim.Adam(coder.parameters(), lr=LR)

    def step(x: Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        coder(x).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimizer.step()
        optimizer.zero_grad()

    return Contestant(step, lambda x: coder(x).sae_out)


def overcomplete(size: Size) -> Contestant:
    """Overcomplete's TopKSAE with a linear encoder, and the steps of its training loop."""
    # the package's own __init__ imports vision models and what they need; only its SAEs are wanted
    spec = importlib.util.find_spec("overcomplete")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'overcomplete'")
    package = types.ModuleType("overcomplete")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["overcomplete"] = package
    from overcomplete.sae import TopKSAE

    torch.manual_seed(0)
    sae = TopKSAE(size.d_in, size.d_sae, top_k=size.k, encoder_module="linear")
    optimizer = torch.optim.Adam(sae.parameters(), lr=LR)

    def step(x: Tensor) -> None:
        optimizer.zero_grad()
        _, _, x_hat = sae(x)
        (x - x_hat).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()

    return Contestant(step, lambda x: sae(x)[2])


CONTESTANTS: dict[str, Callable[[Size], Contestant]] = {
    "dense": dense,
    "ours": ours,
    "ours, batchtopk": ours_batchtopk,
    "ours, tilted": ours_tilted,
    "sae-lens": sae_lens,
    "dictionary-learning": dictionary_learning,
    "eai-sparsify": sparsify,
    "overcomplete": overcomplete,
}
PEERS = ("sae-lens", "dictionary-learning", "eai-sparsify", "overcomplete")
