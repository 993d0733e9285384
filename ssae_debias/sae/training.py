"""Training a sparse autoencoder: from scratch (a GSAE) or specialised from one (an SSAE).

One function, `train_sae`. It scales the activations to a mean norm of √d_in, goes through them batch by batch in
an order that the seed fixes, steps, writes checkpoints, and at the end gives the SAE per-latent thresholds and
folds the scale back into its weights. What is random is decided by (seed, epoch) alone, so that a killed run
continues from its last checkpoint and ends, on CPU, with the same bits.

Several ranks (`ssae_debias.ranks`) train one SAE together: `SAEConfig.batch_size` is what all of them take in a
step, every rank goes through the same batches in the same order and works on its rows, and gradients are summed. So
a run is the same run with any number of ranks, to rounding, and one that was killed goes on with another number.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.checkpoints import Checkpoints
from ssae_debias.sae.config import SAEConfig
from ssae_debias.sae.sources import ActivationSource, ArraySource, as_source, require_finite
from ssae_debias.sae.steps.training_step import Kernels
from ssae_debias.sae.trainer import Trainer

SAMPLE_TOKENS = 32_768
"""Tokens from which scale, first bias and TopK's thresholds are estimated."""


def train_sae(
    activations: Tensor | np.ndarray | ActivationSource,
    config: SAEConfig,
    *,
    init: SparseAutoencoder | None = None,
    validation: Tensor | np.ndarray | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 200,
    log_every: int = 25,
    random_state: int | np.random.Generator | np.random.RandomState | None = 0,
    device: str | torch.device = "cpu",
    ranks: Ranks = ALONE,
    kernels: Kernels = "auto",
    verbose: int = 0,
) -> SparseAutoencoder:
    """Train an SAE on activations, or fine-tune one.

    Parameters
    ----------
    activations : Tensor or ndarray of shape (n_tokens, d_in), or ActivationSource
        What to learn; a source is read batch by batch and may exceed memory.
    config : SAEConfig
        Architecture, objective, schedule.
    init : SparseAutoencoder, optional
        Start from a copy of these weights instead of random ones: a GSAE to specialise. Its decoder is brought
        to unit norm first (the reconstruction stays the same).
    validation : Tensor or ndarray of shape (m, d_in), optional
        Held-out activations, reconstructed in the inference form at every record.
    checkpoint_dir : path-like, optional
        Write checkpoints here, in a folder named by the request's hash, and continue from the newest. The same
        request on a finished run returns its result at once.
    checkpoint_every : int, default 200
        Steps between checkpoints.
    log_every : int, default 25
        Steps between records of the history; the first and the last step are always recorded.
    random_state : int, Generator, RandomState or None, default 0
        Decides first directions and order. Checkpoints need an int.
    device : str or torch.device, default "cpu"
        Where to train; the result stays there.
    ranks : Ranks, default: alone
        Who trains together: each calls this with the same arguments (and its own `device`) and gets the same SAE.
        Rank 0's seed and weights are everyone's; it alone reads and writes checkpoints.
    kernels : {"auto", "torch", "triton"}, default "auto"
        What a step is computed by. "auto" takes the Triton kernels for topk and batchtopk on a CUDA device where
        Triton is installed, one rank trains and a short trial agrees with PyTorch; everywhere else PyTorch's
        operators, as "torch" does anywhere. "triton" insists. The result is the same within float32's rounding, so a
        checkpointed run goes on with either.
    verbose : int, default 0
        1 shows a progress bar, on rank 0.

    Returns
    -------
    SparseAutoencoder
        On raw activations, in the inference form. ``history_`` is a list of records: ``step``, ``tokens``,
        ``loss`` (the tilted risk, trainer's unit), ``fvu``, ``l0``, ``dead_fraction``, ``max_error``,
        ``tail_error`` (mean of the worst 1 %; both squared errors in the activations' unit),
        ``effective_sample_size``, ``lr``, all of the step's batch under the training-time sparsity; with
        `validation` also ``validation_fvu``, ``_l0``, ``_dead_fraction``, ``_max_error``, ``_tail_error``.

    Raises
    ------
    TypeError
        Activations that are neither an array of floating numbers nor a source.
    ValueError
        NaN or infinity among the activations (rows counted), or `init` of another shape, or checkpoints asked
        for without an int seed, or ranks that were given different requests, or `kernels` that cannot be used here.
    FloatingPointError
        The loss ceased to be finite: the learning rate is too high.
    RankFailedError
        Another rank failed; the message says why.

    References
    ----------
    Muhamed, Diab, Smith: "Decoding Dark Matter", 2025 (GSAE → SSAE under TERM).
    Gao et al. 2024, Bussmann et al. 2024, Rajamanoharan et al. 2024 (architectures; see `sparsity`).

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    >>> general = train_sae(x, SAEConfig(d_sae=64, k=4, batch_size=200))
    >>> special = train_sae(x[:500], SAEConfig(d_sae=64, k=4, batch_size=100, tilt=1.0), init=general)
    >>> special.history_[-1]["step"]
    5
    """
    source = as_source(activations)
    held_out = None if validation is None else _held_out(validation, source.d_in)
    _require_shared(
        ranks, torch.device(device), {**config.to_dict(), "n_tokens": source.n_tokens, "d_in": source.d_in}
    )
    seed = ranks.from_first(_seed(random_state, needs_int=checkpoint_dir is not None))
    sample = _sample(source, config, seed).to(device)
    unit = ranks.from_first(source.d_in**0.5 / _mean_norm(sample) if config.normalize else 1.0)
    sae = _start(source.d_in, config, init, sample * unit, unit, seed).to(device)
    n_tokens = config.n_tokens or config.epochs * source.n_tokens
    trainer = Trainer(sae, n_tokens, unit, ranks, kernels)

    checkpoints = None
    if checkpoint_dir is not None and ranks.first:
        checkpoints = Checkpoints(checkpoint_dir, _request(source, config, init, seed))
        if (saved := checkpoints.newest()) is not None:
            trainer.restore(*saved)
    if ranks.size > 1:
        tensors, facts = trainer.state()
        trainer.restore(ranks.tensors_from_first(tensors), ranks.from_first(facts))

    hidden = not (verbose and ranks.first)
    bar = tqdm(total=n_tokens, initial=trainer.tokens_seen, unit="token", desc="SAE", disable=hidden)
    with bar:
        for batch in _batches(source, config.batch_size, seed, skip=trainer.steps_done, until=n_tokens):
            require_finite(batch)
            batch = batch[: n_tokens - trainer.tokens_seen]
            x = ranks.split(batch).to(device, torch.float32) * unit
            result = trainer.train_on(x)
            finished = trainer.tokens_seen >= n_tokens
            if finished or trainer.steps_done == 1 or trainer.steps_done % log_every == 0:
                trainer.record(x, result, None if held_out is None else held_out.to(device) * unit)
                _require_progress(trainer.history[-1])
                bar.set_postfix(fvu=f"{trainer.history[-1]['fvu']:.3f}", refresh=False)
            if checkpoints is not None and (finished or trainer.steps_done % checkpoint_every == 0):
                checkpoints.save(trainer.steps_done, *trainer.state())
            bar.update(batch.shape[0])

    trainer.set_inference_form(sample * unit)
    sae.rescale_(1 / unit)
    sae.zero_grad(set_to_none=True)
    sae.history_ = trainer.history
    return sae.eval()


def _batches(source: ActivationSource, batch_size: int, seed: int, skip: int, until: int) -> Iterator[Tensor]:
    """Batches epoch after epoch until enough tokens have passed, without the first `skip`."""
    passed, number, epoch = 0, 0, 0
    while passed < until:
        before = passed
        for batch in source.batches(batch_size, shuffle=True, random_state=_epoch_seed(seed, epoch)):
            passed += batch.shape[0]
            number += 1
            if number > skip:
                yield batch
            if passed >= until:
                return
        if passed == before:
            raise ValueError(f"the activation source promised {source.n_tokens} tokens and yielded none.")
        epoch += 1


def _require_shared(ranks: Ranks, device: torch.device, request: dict[str, Any]) -> None:
    if ranks.size > 1 and device.type != ranks.device.type:
        raise ValueError(
            f"the ranks exchange tensors on {ranks.device}, training is asked for on {device}: "
            "give device=ranks.device."
        )
    ranks.require_same("training", request)


def _start(
    d_in: int, config: SAEConfig, init: SparseAutoencoder | None, sample: Tensor, unit: float, seed: int
) -> SparseAutoencoder:
    if init is None:
        sae = SparseAutoencoder(d_in, config, random_state=seed)
        with torch.no_grad():
            # the best reconstruction from an empty code
            sae.b_dec.copy_(sample.mean(0))
            if config.architecture == "jumprelu":
                # above the rectangle's half-width, so that no pre-activation below 0 moves a threshold
                sae.threshold.fill_(config.jumprelu_bandwidth)
        return sae
    if (init.d_in, init.d_sae) != (d_in, config.d_sae):
        raise ValueError(
            f"init is {init.d_in} × {init.d_sae} (d_in × d_sae), the request is {d_in} × {config.d_sae}."
        )
    if init.normalization != "none":
        raise ValueError(
            f"init normalises each token (normalization={init.normalization!r}); training does not, so such an SAE "
            "can be used as it is but not fine-tuned."
        )
    sae = SparseAutoencoder(
        d_in, config, apply_b_dec_to_input=init.apply_b_dec_to_input, metadata=copy.deepcopy(init.metadata)
    )
    weights = {name: part.detach().float() for name, part in init.named_parameters()}
    sae.load_state_dict(weights)
    return sae.normalize_decoder_().rescale_(unit)


def _sample(source: ActivationSource, config: SAEConfig, seed: int) -> Tensor:
    parts: list[Tensor] = []
    for batch in source.batches(config.batch_size, shuffle=True, random_state=_epoch_seed(seed, 0)):
        require_finite(batch)
        parts.append(batch.float())
        if sum(map(len, parts)) >= SAMPLE_TOKENS:
            break
    if not parts:
        raise ValueError(f"the activation source promised {source.n_tokens} tokens and yielded none.")
    return torch.cat(parts)


def _mean_norm(sample: Tensor) -> float:
    mean = float(sample.norm(dim=1).double().mean())
    if mean == 0:
        raise ValueError("all sampled activations are zero: there is nothing to learn.")
    return mean


def _held_out(validation: Tensor | np.ndarray, d_in: int) -> Tensor:
    source = ArraySource(validation)
    if source.d_in != d_in:
        raise ValueError(f"validation activations are {source.d_in} wide, the training ones {d_in}.")
    return torch.cat(list(source.batches(65536, shuffle=False)))


def _require_progress(record: dict[str, float]) -> None:
    if not np.isfinite(record["loss"]):
        raise FloatingPointError(
            f"the loss is {record['loss']} after step {record['step']}: training diverged; lower lr."
        )


def _seed(random_state: Any, *, needs_int: bool) -> int:
    if isinstance(random_state, int | np.integer) and not isinstance(random_state, bool):
        if random_state < 0:
            raise ValueError(f"random_state must not be negative, got {random_state}.")
        return int(random_state)
    if needs_int:
        raise ValueError(f"checkpoint_dir needs an int random_state to continue a run, got {random_state!r}.")
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    return int(np.random.default_rng(random_state).integers(2**31))


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


def _request(
    source: ActivationSource, config: SAEConfig, init: SparseAutoencoder | None, seed: int
) -> dict[str, Any]:
    digest = hashlib.sha256()
    if init is not None:
        for name, part in sorted(init.named_parameters()):
            digest.update(name.encode())
            digest.update(part.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    # kernels are not part of it: whichever compute a step, the result is the same within rounding
    return {
        "config": config.to_dict(),
        "random_state": seed,
        "n_tokens": source.n_tokens,
        "d_in": source.d_in,
        "data": getattr(source, "fingerprint", None),
        "init": digest.hexdigest() if init is not None else None,
    }
