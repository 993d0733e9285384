"""`ssae-debias train`: activations → a sparse autoencoder in SAELens' layout; by several ranks under torchrun."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from ssae_debias.activations import ActivationStore
from ssae_debias.ranks import Ranks
from ssae_debias.sae import ActivationSource, Kernels, SAEConfig, load_sae, train_sae

HELP = {
    "d_sae": "number of latents (default: that of --init)",
    "architecture": "how a code is made sparse in training",
    "k": "latents per token, of topk (each) and batchtopk (on average)",
    "l1_coefficient": "λ of relu's penalty λ ‖z‖₁",
    "l0_coefficient": "λ of jumprelu's penalty λ ‖z‖₀",
    "jumprelu_bandwidth": "ε of jumprelu's straight-through estimator",
    "tilt": "of the risk over tokens; 0 is the mean, large the maximum",
    "tilt_scale": "mean: losses are divided by their running mean; raw: squared errors, as published",
    "lr": "peak learning rate (default: 1.6e-3 · √(2¹⁴ / d_sae))",
    "batch_size": "tokens a step, of all ranks together",
    "epochs": "passes over the activations, where --tokens is not given",
    "n_tokens": "tokens to train on in all (default: by --epochs)",
    "warmup_fraction": "of training, in which the learning rate rises",
    "decay_fraction": "of training, in which it falls",
    "aux_k": "dead latents a token that AuxK revives (default: half the activations' width); 0 is off",
    "aux_coefficient": "weight of the AuxK loss",
    "dead_after_tokens": "tokens without firing after which a latent is dead (default: a twentieth of training)",
    "normalize": "train on activations scaled to a mean norm of √d_in",
    "clip_grad_norm": "global norm to which gradients are clipped (default: off)",
}
"""One line a field of `SAEConfig`, whose docstring says more."""
FLAGS = {"n_tokens": "--tokens"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; the settings and their defaults are those of `SAEConfig`."""
    need = parser.add_argument_group("needed")
    need.add_argument("--activations", required=True, type=Path, metavar="PATH", help="a store's folder (ssae-debias extract), a .npy or a .safetensors file")  # fmt: skip
    need.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="where the SAE goes; one that stands there is replaced")  # fmt: skip
    parser.add_argument("--site", help="of the store, or tensor of the file (default: the only one)")
    parser.add_argument(
        "--init", metavar="PATH", help="specialise this SAE, of any format that load_sae reads"
    )
    parser.add_argument(
        "--random-state", type=int, default=0, help="seed of directions and order (default: 0)"
    )
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="write checkpoints there, and go on from the newest of this request, with any number of ranks")  # fmt: skip
    parser.add_argument("--checkpoint-every", type=int, default=200, metavar="STEPS", help="(default: 200)")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cuda: each rank its own GPU (default: cpu)")  # fmt: skip
    parser.add_argument("--kernels", default="auto", choices=typing.get_args(Kernels), help="what computes a step: auto is triton on CUDA where it can be used, otherwise torch (default: auto)")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")
    settings = parser.add_argument_group("the autoencoder and its training")
    kinds = typing.get_type_hints(SAEConfig)
    for field in dataclasses.fields(SAEConfig):
        flag = FLAGS.get(field.name, "--" + field.name.replace("_", "-"))
        settings.add_argument(
            flag, dest=field.name, **_option(kinds[field.name], field.default, HELP[field.name])
        )


def command(options: argparse.Namespace) -> int:
    """Train, save, and print how faithful the SAE was at the end."""
    with Ranks.from_environment(options.device) as ranks:
        _require_free(options.out)
        source, metadata = _activations(options.activations, options.site)
        init = None if options.init is None else load_sae(options.init)
        given = {field.name: getattr(options, field.name) for field in dataclasses.fields(SAEConfig)}
        if given["d_sae"] is None:
            if init is None:
                raise ValueError(
                    "--d-sae is needed (how many latents), or --init, which has a number of its own."
                )
            given["d_sae"] = init.d_sae
        sae = train_sae(
            source,
            SAEConfig(**given),
            init=init,
            checkpoint_dir=options.checkpoints,
            checkpoint_every=options.checkpoint_every,
            random_state=options.random_state,
            device=ranks.device,
            ranks=ranks,
            kernels=options.kernels,
            verbose=0 if options.quiet else 1,
        )
        if ranks.first:
            sae.metadata |= metadata
            sae.save_pretrained(options.out)
            last = sae.history_[-1]
            print(
                f"{last['tokens']} tokens in {last['step']} steps: {last['fvu']:.3f} of the variance unexplained, "
                f"{last['l0']:.1f} latents a token, {last['dead_fraction']:.1%} dead: {options.out}"
            )
    return 0


def _option(kind: Any, default: Any, help: str) -> dict[str, Any]:
    if kind is bool:
        return {
            "action": argparse.BooleanOptionalAction,
            "default": default,
            "help": f"{help} (default: {default})",
        }
    if default is dataclasses.MISSING or default is None:
        # float | None
        kinds = [part for part in typing.get_args(kind) if part is not type(None)]
        return {"type": kinds[0] if kinds else kind, "default": None, "help": help, "metavar": "N"}
    shown = (
        f"{help} (default: {default:.6g})" if isinstance(default, float) else f"{help} (default: {default})"
    )
    if choices := typing.get_args(kind):
        return {"choices": choices, "default": default, "help": shown}
    return {"type": kind, "default": default, "help": shown, "metavar": "N"}


def _activations(
    path: Path, site: str | None
) -> tuple[ActivationSource | np.ndarray | torch.Tensor, dict[str, Any]]:
    """What to train on, and what the SAE shall say of it."""
    if path.is_dir():
        store = ActivationStore.open(path)
        site = _only(store.sites, site, f"store {path}", "site")
        request = store.manifest["request"]
        facts = {
            "model_name": store.manifest["model"],
            "hook_name": site,
            "context_size": request["max_length"],
        }
        return store.at(site), facts
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder {path}; `ssae-debias extract` makes a store.")
    facts = {} if site is None else {"hook_name": site}
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r", allow_pickle=False), facts
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            return file.get_tensor(_only(tuple(file.keys()), site, f"file {path}", "tensor")), facts
    raise ValueError(f"{path} is neither a store's folder nor a .npy or .safetensors file.")


def _only(there: tuple[str, ...], asked: str | None, where: str, what: str) -> str:
    if asked is None and len(there) == 1:
        return there[0]
    if asked is None:
        raise ValueError(
            f"the {where} holds {len(there)} {what}s; say which with --site: {', '.join(there)}."
        )
    if asked not in there:
        raise ValueError(f"the {where} holds no {what} {asked!r}; it holds {', '.join(there)}.")
    return asked


def _require_free(out: Path) -> None:
    """Hours before `save_sae` would."""
    if out.exists() and not (out.is_dir() and ((out / "cfg.json").is_file() or not any(out.iterdir()))):
        raise FileExistsError(f"{out} exists and is no saved SAE; choose another path or remove it.")
