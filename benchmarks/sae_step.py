"""The speed of a sparse training step, relative to the dense loop that one would write first.

    python benchmarks/sae_step.py                        # d = 384, d_sae = 6144, k = 32, batch 4096
    python benchmarks/sae_step.py --d-sae 3072 --batch 1024 --threads 1 --json step.json

Both loops train the same SAE on the same batches with the same Adam, in turns within one run, so that a busy
machine slows both. The dense loop is plain autograd: encode, select, decode, squared error, backward. Rates are
activations per second in the fastest round, for whatever else runs can only slow one down. The last losses show
that both compute the same; the dense loop stays untilted, so that the last row also shows the price of a tilt.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssae_debias.sae import SAEConfig, SparseAutoencoder, tilted_weights
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.sparsity import batch_topk, topk
from ssae_debias.sae.steps import SparseStep

LR = 1e-3


def dense_loop(sae: SparseAutoencoder, config: SAEConfig) -> Callable[[Tensor], float]:
    optimizer = UnitNormAdam(sae)
    select = topk if config.architecture == "topk" else batch_topk

    def step(x: Tensor) -> float:
        sae.zero_grad(set_to_none=True)
        reconstruction = sae.decode(select(sae.pre_activations(x), config.k))
        loss = (x - reconstruction).square().sum(1).mean()
        loss.backward()
        optimizer.step(LR)
        return float(loss.detach())

    return step


def sparse_loop(sae: SparseAutoencoder, config: SAEConfig) -> Callable[[Tensor], float]:
    optimizer, gradients = UnitNormAdam(sae), SparseStep(config)

    def step(x: Tensor) -> float:
        result = gradients(sae, x, lambda losses: tilted_weights(losses, config.tilt, float(losses.mean())))
        optimizer.step(LR)
        return float(result.losses.mean())

    return step


def compare(architecture: str, tilt: float, args: argparse.Namespace) -> dict[str, float | str]:
    config = SAEConfig(d_sae=args.d_sae, k=args.k, architecture=architecture, tilt=tilt)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    # sparse sums of hidden directions: a batch on which selection and losses behave as on a model's activations
    hidden = torch.nn.functional.normalize(torch.randn(args.d_sae // 2, args.d_in, generator=generator))

    def batch() -> Tensor:
        chosen = torch.randint(len(hidden), (args.batch, 8), generator=generator)
        lengths = torch.rand(args.batch, 8, 1, generator=generator) + 0.5
        noise = torch.randn(args.batch, args.d_in, generator=generator)
        return (hidden[chosen] * lengths).sum(1) * 6 + noise * 0.3

    names = ("sparse", "dense")
    loops, losses = {}, {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name, loop in zip(names, (sparse_loop, dense_loop), strict=True):
        loops[name] = loop(SparseAutoencoder(args.d_in, config), config)
        warm_up = torch.Generator().manual_seed(1)
        for _ in range(2):
            loops[name](torch.randn(args.batch, args.d_in, generator=warm_up))
    for _ in range(args.rounds):
        x = batch()
        for name in names:
            start = time.perf_counter()
            losses[name] = loops[name](x)
            seconds[name].append(time.perf_counter() - start)
    rate = {name: args.batch / min(seconds[name]) for name in names}
    return {
        "architecture": architecture,
        "tilt": tilt,
        "sparse_per_second": round(rate["sparse"]),
        "dense_per_second": round(rate["dense"]),
        "ratio": round(rate["sparse"] / rate["dense"], 2),
        "last_loss_sparse": losses["sparse"],
        "last_loss_dense": losses["dense"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--d-in", type=int, default=384)
    parser.add_argument("--d-sae", type=int, default=6144)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"d_in={args.d_in} d_sae={args.d_sae} k={args.k} batch={args.batch} threads={args.threads}")
    print(f"{'architecture':<14}{'tilt':>6}{'sparse/s':>11}{'dense/s':>10}{'ratio':>8}{'last losses':>20}")
    rows = []
    for architecture, tilt in (("topk", 0.0), ("batchtopk", 0.0), ("batchtopk", 2.0)):
        row = compare(architecture, tilt, args)
        rows.append(row)
        print(
            f"{architecture:<14}{tilt:>6}{row['sparse_per_second']:>11,}{row['dense_per_second']:>10,}"
            f"{row['ratio']:>8}{row['last_loss_sparse']:>11.3f} {row['last_loss_dense']:.3f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
