"""dictionary_learning: ``trainer_{i}/ae.pt`` and its ``config.json``, or a bare ``ae.pt``.

AutoEncoder                f = relu((x − bias) E + e),  x̂ = f D + bias
AutoEncoderNew             the same with one bias inside each linear map, nothing subtracted
GatedAutoEncoder           f = relu(e^{r_mag} u + mag_bias) · [u + gate_bias > 0],  u = (x − decoder_bias) E
AutoEncoderTopK            f = the k largest of relu((x − b_dec) E + e)
BatchTopKSAE, Matryoshka…  f = relu(p) · [relu(p) > threshold],  p = (x − b_dec) E + e, one threshold for all
JumpReluAutoEncoder        f = relu(p) · [p > threshold],  p = x E + e: b_dec is not subtracted

Gated and JumpReLU latents are measured in lengths of their decoder rows, so theirs get norm 1 here. A *backup*
(``{step, ae, optimizer, config, norm_factor}``) has weights for activations divided by ``norm_factor``, which is
folded; the finished ``ae.pt`` and the checkpoints have it folded already.

References
----------
saprmarks/dictionary_learning: ``dictionary.py``, ``trainers/`` (classes), ``training.py`` (files).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ssae_debias.files import DamagedFileError
from ssae_debias.sae.autoencoder import SparseAutoencoder
from ssae_debias.sae.formats.form import Format, integer, positive
from ssae_debias.sae.formats.parts import Parts, facts, gated
from ssae_debias.sae.formats.tensors import length, read_settings, read_torch, require_shapes, require_tensors

WEIGHTS = "ae.pt"
CONFIG = "config.json"

_LINEAR = {"encoder.weight": "FD", "encoder.bias": "F", "decoder.weight": "DF"}
_PLAIN = {"W_enc": "DF", "b_enc": "F", "W_dec": "FD", "b_dec": "D"}

# the floating tensors of each class, with F latents and D dimensions
CLASSES: dict[str, dict[str, str]] = {
    "AutoEncoder": {"bias": "D", **_LINEAR},
    "AutoEncoderNew": {**_LINEAR, "decoder.bias": "D"},
    "GatedAutoEncoder": {
        "decoder_bias": "D", "r_mag": "F", "gate_bias": "F", "mag_bias": "F",
        "encoder.weight": "FD", "decoder.weight": "DF",
    },
    "AutoEncoderTopK": {**_LINEAR, "b_dec": "D"},
    "BatchTopKSAE": {**_LINEAR, "b_dec": "D"},
    "MatryoshkaBatchTopKSAE": _PLAIN,
    "JumpReluAutoEncoder": {**_PLAIN, "threshold": "F"},
}  # fmt: skip

# what each class is called among our architectures
ARCHITECTURES = {
    "AutoEncoder": "relu", "AutoEncoderNew": "relu", "GatedAutoEncoder": "gated", "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk", "MatryoshkaBatchTopKSAE": "batchtopk", "JumpReluAutoEncoder": "jumprelu",
}  # fmt: skip

# what the classes that rank latents in training hold beside their weights
BUFFERS = {
    "AutoEncoderTopK": ("k", "threshold"),
    "BatchTopKSAE": ("k", "threshold"),
    "MatryoshkaBatchTopKSAE": ("k", "threshold", "group_sizes"),
}


def weights_of(path: Path) -> Path | None:
    """The weights that a path of this format means."""
    if path.is_dir():
        return path / WEIGHTS if (path / WEIGHTS).is_file() else None
    return path if path.is_file() and path.suffix in (".pt", ".pth") else None


def read(weights: Path, *, use_threshold: bool | None = None) -> SparseAutoencoder:
    """The SAE in an ``ae.pt``, with the ``config.json`` beside it or, for a checkpoint, one folder up.

    Parameters
    ----------
    weights : Path
    use_threshold : bool, optional
        How a class that ranks latents in training selects them: True, those above the file's threshold; False,
        each token's k largest. By default as the class itself encodes: AutoEncoderTopK by rank, the others by
        threshold.
    """
    config = _config(weights)
    saved = read_torch(weights)
    norm_factor = None
    if isinstance(saved, Mapping) and isinstance(saved.get("ae"), Mapping):
        norm_factor = _norm_factor(saved, weights)
        config = {"trainer": saved.get("config"), **config}
        saved = saved["ae"]
    tensors = require_tensors(saved, weights)
    trainer = config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    name = _class(set(tensors), trainer.get("dict_class"), weights, use_threshold)
    buffers = {other: tensors.pop(other) for other in BUFFERS.get(name, ()) if other in tensors}
    d_sae, d_in = (
        length(tensors, next(bias for bias, axes in CLASSES[name].items() if axes == axis), weights)
        for axis in "FD"
    )
    sizes = {"F": d_sae, "D": d_in}
    expected = {other: tuple(sizes[axis] for axis in axes) for other, axes in CLASSES[name].items()}
    require_shapes(tensors, expected, weights, f"the biases of a {name}")

    parts = _parts(name, tensors)
    if name in BUFFERS:
        _select(parts, name, buffers, trainer, weights, use_threshold)
    elif use_threshold is not None:
        raise ValueError(f"{weights} holds a {name}, which has one form only; leave use_threshold out.")
    sae = parts.assemble(weights, ARCHITECTURES[name], _metadata(name, trainer, config.get("buffer")))
    if name in ("GatedAutoEncoder", "JumpReluAutoEncoder"):
        sae.normalize_decoder_()
    return sae if norm_factor is None else sae.rescale_(norm_factor)


def _metadata(name: str, trainer: dict[str, Any], buffer: Any) -> dict[str, Any]:
    """Where the activations came from, in this package's words."""
    renamed = {"model_name": trainer.get("lm_name")}
    if isinstance(buffer, dict):
        renamed["context_size"] = buffer.get("ctx_len")
    return {
        **facts(trainer, "layer", "submodule_name"),
        **facts(renamed, *renamed),
        "format": f"dictionary_learning {name}",
    }


def _config(weights: Path) -> dict[str, Any]:
    folders = [weights.parent, *([weights.parent.parent] if weights.parent.name == "checkpoints" else [])]
    found = [folder / CONFIG for folder in folders if (folder / CONFIG).is_file()]
    return read_settings(found[0]) if found else {}


def _norm_factor(backup: Mapping[str, Any], path: Path) -> float:
    """What a backup's activations were divided by."""
    if "norm_factor" not in backup:
        raise ValueError(
            f"{path} is a backup without norm_factor: what its activations were divided by is unknown. Use the "
            "finished ae.pt or a checkpoint of the run."
        )
    factor = backup["norm_factor"]
    if isinstance(factor, Tensor) and factor.numel() == 1:
        factor = factor.item()
    if factor is not None and not positive(factor):
        raise DamagedFileError(f"{path}: norm_factor must be positive and finite, got {factor!r}.")
    return 1.0 if factor is None else float(factor)


def _class(names: set[str], said: Any, path: Path, use_threshold: bool | None) -> str:
    """The dictionary's class: as its config says, checked against its tensors, or by its tensors alone."""

    def fits(name: str) -> bool:
        extra = names - set(CLASSES[name])
        told_apart = {"group_sizes"} if name == "MatryoshkaBatchTopKSAE" else set()
        return set(CLASSES[name]) | told_apart <= names and extra <= set(BUFFERS.get(name, ()))

    fitting = [name for name in CLASSES if fits(name)]
    if said is not None:
        name = str(said).rpartition(".")[2]
        if name not in CLASSES:
            raise ValueError(f"{path}: dict_class is {said!r}; this reader takes {', '.join(CLASSES)}.")
        if name not in fitting:
            raise DamagedFileError(
                f"{path} holds {', '.join(sorted(names))}, which is no {name} (its dict_class by {CONFIG})."
            )
        return name
    if not fitting:
        raise DamagedFileError(
            f"{path} holds {', '.join(sorted(names))}: no class of dictionary_learning that this reader knows "
            f"({', '.join(CLASSES)})."
        )
    if len(fitting) > 1 and use_threshold is None:
        raise ValueError(
            f"{path} has no {CONFIG} beside it and may be a {' or a '.join(fitting)}, which code alike but select "
            "differently. Put the config.json there, or say use_threshold=True or False."
        )
    return fitting[0]


def _parts(name: str, tensors: dict[str, Any]) -> Parts:
    if "W_dec" in tensors:
        subtracted = name != "JumpReluAutoEncoder"
        return Parts(**tensors, apply_b_dec_to_input=subtracted)
    W_enc, W_dec = tensors["encoder.weight"].T, tensors["decoder.weight"].T
    if name == "GatedAutoEncoder":
        encoder = gated(W_enc, tensors["r_mag"], tensors["gate_bias"], tensors["mag_bias"])
        return Parts(W_dec=W_dec, b_dec=tensors["decoder_bias"], **encoder)
    b_dec = next(tensors[bias] for bias in ("bias", "b_dec", "decoder.bias") if bias in tensors)
    return Parts(W_enc, W_dec, tensors["encoder.bias"], b_dec, apply_b_dec_to_input=name != "AutoEncoderNew")


def _select(
    parts: Parts,
    name: str,
    buffers: Mapping[str, Tensor],
    trainer: Mapping[str, Any],
    path: Path,
    use_threshold: bool | None,
) -> None:
    """Give `parts` the threshold or the k by which latents are selected."""
    by_threshold = name != "AutoEncoderTopK" if use_threshold is None else use_threshold
    ks: list[Any] = [buffers["k"].tolist()] if "k" in buffers else []
    ks += [trainer["k"]] if trainer.get("k") is not None else []
    if any(k != ks[0] or not integer(k) or k > len(parts.b_enc) for k in ks):
        raise DamagedFileError(
            f"{path}: k is {' and '.join(map(str, ks))} by weights and {CONFIG}, expected one integer from 1 to "
            f"{len(parts.b_enc)}."
        )
    if by_threshold:
        threshold = buffers.get("threshold")
        if threshold is None or threshold.numel() != 1 or not bool(threshold >= 0):
            raise ValueError(
                f"{path}: the threshold of this {name} is not set (dictionary_learning writes -1 until it has "
                "measured one). use_threshold=False keeps each token's k largest latents instead."
            )
        parts.threshold = threshold.float().expand(len(parts.b_enc))
    elif ks:
        parts.top_k = ks[0]
    else:
        raise ValueError(f"{path}: neither the weights nor {CONFIG} say k, which this {name} needs.")


FORMAT = Format(
    "dictionary_learning", f"{WEIGHTS}, alone or with {CONFIG}", weights_of, read, ("use_threshold",)
)
