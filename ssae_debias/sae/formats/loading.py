"""Reading an SAE whose format is found out by looking."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats import dictionary_learning, gemma_scope, llama_scope, saelens, sparsify
from ssae_debias.sae.formats.form import Format
from ssae_debias.sae.formats.hub import local_path
from ssae_debias.sae.formats.tensors import require_sha256

FORMATS: tuple[Format, ...] = tuple(
    module.FORMAT for module in (saelens, sparsify, dictionary_learning, gemma_scope, llama_scope)
)


def load_sae(
    path: str | os.PathLike[str],
    *,
    mean_norm: float | None = None,
    use_threshold: bool | None = None,
    scaled_embedding: bool | None = None,
    sha256: str | None = None,
) -> SparseAutoencoder:
    """Read a sparse autoencoder, ours or a released one; its format is recognised by its files.

    Parameters
    ----------
    path : path-like
        A folder or its weights file, or ``hub:owner/name[@revision][/folder]``, which is fetched from the
        Hugging Face hub into its cache. Recognised are

        - SAELens, and ours: ``cfg.json``, ``sae_weights.safetensors``. Our manifest is checked if it is there.
        - sparsify: ``cfg.json``, ``sae.safetensors``.
        - dictionary_learning, and Sparse Feature Circuits: ``ae.pt``, with ``config.json`` or bare.
        - Gemma Scope: ``params.npz``.
        - Llama Scope: ``hyperparams.json``, ``checkpoints/final.safetensors``.
    mean_norm : float, optional
        SAELens: mean norm of the activations, for a dictionary trained on activations scaled by
        ``√d_in / mean_norm`` (``normalize_activations: expected_average_only_in``) that carries no
        ``activation_scaler.json``.
    use_threshold : bool, optional
        dictionary_learning: whether the classes that rank latents in training select by the file's threshold or
        take each token's k largest. By default as the class encodes: AutoEncoderTopK by rank, BatchTopKSAE and
        MatryoshkaBatchTopKSAE by threshold. Single latents can be edited in the threshold form only.
    scaled_embedding : bool, optional
        Gemma Scope: True for an SAE on embeddings where activations are the embeddings times √d_in, as our site
        `embed` has them.
    sha256 : str, optional
        Of the weights file, in hexadecimal, where it is known; compared before anything is read. What lies in the
        Hugging Face cache is compared with the sha256 that it is filed under.

    Returns
    -------
    SparseAutoencoder
        Acting on raw activations, on the CPU; half precision is widened to float32 unless the SAE is ours.
        ``metadata["format"]`` says what was found.

    Raises
    ------
    FileNotFoundError
        No such path, or nothing there that is recognised.
    DamagedFileError
        A file that is truncated or altered, weights missing, of wrong shape, or not finite; an archive that
        unpacks to more than weights can; a pickle that would run code (none is run).
    ValueError
        Settings that ask for what a `SparseAutoencoder` cannot express (the field is named), files of several
        formats, or an option that the format does not have.

    Notes
    -----
    Files are data: nothing is executed. A TopK dictionary carries no thresholds: it goes on selecting each
    token's k largest (``top_k``). A gated dictionary becomes one with thresholds, exactly. One that normalises
    each token keeps doing so (`SparseAutoencoder.normalization`).

    Examples
    --------
    >>> import tempfile, torch
    >>> file = tempfile.mkdtemp() + "/ae.pt"
    >>> torch.save({"bias": torch.ones(2), "encoder.weight": torch.ones(3, 2), "encoder.bias": torch.zeros(3),
    ...             "decoder.weight": torch.ones(2, 3)}, file)
    >>> load_sae(file).metadata
    {'format': 'dictionary_learning AutoEncoder'}
    """
    given = {"mean_norm": mean_norm, "use_threshold": use_threshold, "scaled_embedding": scaled_embedding}
    options = {name: value for name, value in given.items() if value is not None}
    form, weights = recognise(local_path(path))
    foreign = sorted(set(options) - set(form.options))
    if foreign:
        raise ValueError(
            f"{path} is in the format {form.name}, which has no {', '.join(foreign)}; leave it out."
        )
    require_sha256(weights, sha256)
    return form.read(weights, **options)


def recognise(path: Path) -> tuple[Format, Path]:
    """The format of what lies at `path`, and its weights file.

    Raises
    ------
    FileNotFoundError
        There is nothing, or nothing recognised.
    ValueError
        There are files of several formats.
    """
    found = [(form, file) for form in FORMATS if (file := form.weights(path)) is not None]
    if len(found) > 1:
        names = ", ".join(f"{form.name} ({file.name})" for form, file in found)
        raise ValueError(f"{path} holds SAEs of several formats: {names}. Give the path of one weights file.")
    if found:
        return found[0]
    known = "; ".join(f"{form.name}: {form.layout}" for form in FORMATS)
    raise FileNotFoundError(
        f"{path} holds no SAE that can be read: {_content(path)}. Recognised are {known}."
    )


def is_sae(path: Path) -> bool:
    """Whether a path is recognised as an SAE of some format."""
    return any(form.weights(path) is not None for form in FORMATS)


def _content(path: Path) -> str:
    if not path.exists():
        return "there is no such path"
    if not path.is_dir():
        return "a file of another kind"
    names: list[Any] = sorted(entry.name for entry in path.iterdir())
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return f"it has {shown}" if names else "it is empty"
