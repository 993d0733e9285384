"""Attribution of latents on the original probe's decisions, kept on disk.

Integrated gradients at a dozen sites take minutes, and a person who vetoes latents runs the recipe twice: the
effects are found again by all that they depend on (model, dictionaries, probe, texts, answers, settings).
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ssae_debias.activations.building import texts_sha256
from ssae_debias.files import DamagedFileError, folder_aside, read_manifest, write_manifest
from ssae_debias.latents import Dictionary, Neurons, ProbeDecision, attribute_decision
from ssae_debias.recipe.methods.method import fit_probe

if TYPE_CHECKING:
    from ssae_debias.recipe.bench import Bench

KIND = "attribution"


def measured_effects(
    bench: Bench,
    dictionaries: Mapping[str, Dictionary],
    rows: NDArray[np.int64],
    answers: NDArray[np.int64],
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    """Effect of zeroing each latent on how well the original probe gives some answers.

    Parameters
    ----------
    bench : Bench
    dictionaries : mapping of str to Dictionary
        By site.
    rows : ndarray of int64
        Texts of the task.
    answers : ndarray of {0, 1}
        One for each row: its label, to see what the decision uses; its attribute, to see what the decision
        owes to the attribute.
    seed : int
        Whose ambiguous set the probe is fitted on.
    """
    protocol, spec = bench.recipe.protocol, bench.recipe.shift
    probe = fit_probe(bench, bench.original, bench.sets(seed).ambiguous)
    decision = ProbeDecision.from_pipeline(probe, protocol.site, include_special=protocol.include_special)
    texts = [bench.task.texts[row] for row in rows]
    digest = hashlib.sha256()
    settings = [bench.model.fingerprint, protocol.site, protocol.include_special, protocol.max_length]
    digest.update(json.dumps([*settings, spec.attribution, spec.steps, texts_sha256(texts)]).encode())
    for array in (decision.coef, np.float64(decision.intercept), answers):
        digest.update(np.asarray(array).tobytes())
    for site, dictionary in dictionaries.items():
        digest.update(site.encode() + _weights_sha256(dictionary))
    folder = bench.home / "shift" / f"attribution-{digest.hexdigest()[:24]}"
    if folder.is_dir():
        try:
            read_manifest(folder, KIND)
            with np.load(folder / "effects.npz", allow_pickle=False) as saved:
                return {site: saved[site] for site in dictionaries}
        except (DamagedFileError, FileNotFoundError) as error:
            warnings.warn(f"Effects are computed again: {error}", stacklevel=2)
    _move(dictionaries, bench.model.device)
    try:
        effects = attribute_decision(
            bench.model,
            dictionaries,
            texts,
            answers,
            decision,
            method=spec.attribution,
            steps=spec.steps,
            max_length=protocol.max_length,
            verbose=bench.verbose,
        )
    finally:
        _move(dictionaries, torch.device("cpu"))
    with folder_aside(folder) as aside:
        np.savez(aside / "effects.npz", **effects)  # type: ignore[arg-type]
        write_manifest(aside, KIND)
    return effects


def _move(dictionaries: Mapping[str, Dictionary], device: torch.device) -> None:
    """SAEs in place; neurons have no weights worth moving."""
    for dictionary in dictionaries.values():
        if isinstance(dictionary, nn.Module):
            dictionary.to(device)


def _weights_sha256(dictionary: Dictionary) -> bytes:
    if isinstance(dictionary, Neurons):
        return f"neurons {dictionary.d_sae}".encode()
    assert isinstance(dictionary, nn.Module)
    digest = hashlib.sha256()
    for name, part in sorted(dictionary.named_parameters()):
        digest.update(name.encode() + part.detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()
