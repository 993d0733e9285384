"""The speed of a fused training step on a GPU, against what the hardware allows and against the dense bf16 loop.

    python benchmarks/gpu_step.py                                    # d = 768, d_sae = 24576, k = 32, batch 16384
    python benchmarks/gpu_step.py --batch 4096 --architecture topk --json gpu.json

The floor is the time of what no step can do without, each part measured on the same GPU:

- *product*: the encoder's product in bfloat16;
- *pass*: reading the pre-activations once (the largest of each row);
- *traffic*: moving what the row-sparse parts must move at least once, at the rate of a device-to-device copy:
  weights and Adam's moments read and written once each (12 passes over a d_sae × d table of float32), activations,
  residuals and encoder inputs (4 passes over an n × d one), k decoder rows a token counted as cached.

Rates are activations per second in the fastest round. All loops train the same SAE on the same batches; the last
losses show that they compute the same. `share` is a loop's rate over the floor's.
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
from ssae_debias.sae.kernels.language import why_unavailable
from ssae_debias.sae.optimizer import UnitNormAdam
from ssae_debias.sae.sparsity import batch_topk, topk
from ssae_debias.sae.steps.triton_step import TritonStep, TritonTrainingStep

LR = 1e-3


def seconds(action: Callable[[], object], rounds: int) -> float:
    """The shortest of some rounds, after three to compile and warm up."""
    times = []
    for turn in range(rounds + 3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        action()
        torch.cuda.synchronize()
        if turn >= 3:
            times.append(time.perf_counter() - start)
    return min(times)


def floor(n: int, d: int, d_sae: int, rounds: int) -> dict[str, float]:
    """Seconds of the floor's parts for a batch of n activations."""
    x = torch.randn(n, d, device="cuda", dtype=torch.bfloat16)
    W_enc = torch.randn(d, d_sae, device="cuda", dtype=torch.bfloat16)
    b_enc = torch.randn(d_sae, device="cuda", dtype=torch.bfloat16)
    p = torch.addmm(b_enc, x, W_enc)
    largest = p.new_empty(n)
    block = torch.empty(2**28, device="cuda")
    copy = torch.empty_like(block)
    copied = 2 * block.numel() * 4 / seconds(lambda: copy.copy_(block), rounds)
    return {
        "product": seconds(lambda: torch.addmm(b_enc, x, W_enc, out=p), rounds),
        "pass": seconds(lambda: torch.amax(p, dim=1, out=largest), rounds),
        "traffic": 4 * (12 * d_sae * d + 4 * n * d) / copied,
    }


def uniform(losses: Tensor) -> Tensor:
    return tilted_weights(losses, 0.0)


def dense_bf16(sae: SparseAutoencoder, config: SAEConfig) -> Callable[[Tensor], Tensor]:
    optimizer = UnitNormAdam(sae)
    select = topk if config.architecture == "topk" else batch_topk

    def step(x: Tensor) -> Tensor:
        sae.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.bfloat16):
            reconstruction = sae.decode(select(sae.pre_activations(x), config.k))
        loss = (x - reconstruction).square().sum(1).mean()
        loss.backward()
        optimizer.step(LR)
        return loss.detach()

    return step


def fused(sae: SparseAutoencoder, config: SAEConfig, precision: str) -> Callable[[Tensor], Tensor]:
    training = TritonTrainingStep(config, precision)  # type: ignore[arg-type]
    return lambda x: training.step(sae, x, uniform, None, LR).losses.mean()


def separate(sae: SparseAutoencoder, config: SAEConfig, precision: str) -> Callable[[Tensor], Tensor]:
    gradients, optimizer = TritonStep(config, precision), UnitNormAdam(sae)  # type: ignore[arg-type]

    def step(x: Tensor) -> Tensor:
        result = gradients(sae, x, uniform)
        optimizer.step(LR)
        return result.losses.mean()

    return step


def measure(args: argparse.Namespace) -> list[dict[str, float | str]]:
    config = SAEConfig(d_sae=args.d_sae, k=args.k, architecture=args.architecture)
    generator = torch.Generator(device="cuda").manual_seed(0)
    # sparse sums of hidden directions: a batch on which selection behaves as on a model's activations
    hidden = torch.randn(args.d_sae // 2, args.d_in, generator=generator, device="cuda")
    hidden = torch.nn.functional.normalize(hidden)

    def batch() -> Tensor:
        x = torch.randn(args.batch, args.d_in, generator=generator, device="cuda") * 0.3
        for _ in range(8):
            chosen = torch.randint(len(hidden), (args.batch,), generator=generator, device="cuda")
            x += hidden[chosen] * (6 * torch.rand(args.batch, 1, generator=generator, device="cuda") + 3)
        return x

    batches = [batch() for _ in range(4)]
    parts = floor(args.batch, args.d_in, args.d_sae, args.rounds)
    fastest = args.batch / sum(parts.values())
    print("floor: " + ", ".join(f"{name} {1e6 * part:.0f} µs" for name, part in parts.items()))
    rows: list[dict[str, float | str]] = [
        {"loop": "floor", "per_second": round(fastest), "share": 1.0, **parts}
    ]
    loops = {
        "fused, bf16 candidates": lambda sae: fused(sae, config, "bf16"),
        "fused, fp32": lambda sae: fused(sae, config, "fp32"),
        "gradients then Adam, bf16 candidates": lambda sae: separate(sae, config, "bf16"),
        "dense bf16": lambda sae: dense_bf16(sae, config),
    }
    for name, make in loops.items():
        sae = SparseAutoencoder(args.d_in, config).cuda()
        step = make(sae)
        losses: list[Tensor] = []

        def turn(step: Callable[[Tensor], Tensor] = step, losses: list[Tensor] = losses) -> None:
            losses.append(step(batches[len(losses) % len(batches)]))

        torch.cuda.reset_peak_memory_stats()
        rate = args.batch / seconds(turn, args.rounds)
        rows.append(
            {
                "loop": name,
                "per_second": round(rate),
                "share": round(rate / fastest, 3),
                "last_loss": float(losses[-1]),
                "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 2),
            }
        )
        del sae, step, turn
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--d-in", type=int, default=768)
    parser.add_argument("--d-sae", type=int, default=24576)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16384)
    parser.add_argument("--architecture", choices=("topk", "batchtopk"), default="batchtopk")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(
            "No GPU here: this benchmark needs a CUDA device; benchmarks/sae_step.py measures the CPU's step."
        )
        return
    reason = why_unavailable(torch.device("cuda"))
    if reason is not None:
        print(reason)
        return
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(
        f"d_in={args.d_in} d_sae={args.d_sae} k={args.k} batch={args.batch} architecture={args.architecture}"
    )
    rows = measure(args)
    print(f"{'loop':<38}{'per second':>12}{'share':>8}{'last loss':>11}{'GB':>7}")
    for row in rows:
        loss, memory = row.get("last_loss", float("nan")), row.get("peak_memory_gb", float("nan"))
        print(f"{row['loop']:<38}{row['per_second']:>12,}{row['share']:>8}{loss:>11.3f}{memory:>7.2f}")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
