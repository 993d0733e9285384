"""How an audit looks for latents and edits them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class LatentSettings:
    """Where SAEs are trained, what flags a latent, and what is done with it.

    Parameters
    ----------
    sites : "auto" or sequence of str, default="auto"
        `"auto"`: for a text model `embed`, for any other classifier all its sites. Inside a classifier that leans on
        the attribute, latents further on answer to the swap because the decision does, and ablating them ablates
        the task: on a fine-tuned MiniLM each further block cost accuracy and bought no fewer flips. A frozen model
        under a probe is another matter; see `SSAEDebiaser`.
    residue_site : str or None, default=None
        Where realignment and erasure act; None takes the last of `sites`.
    sae : "train", path or mapping, default="train"
        For text models: SAEs to specialise in place of new ones; see `SSAEDebiaser`.
    corpus, retriever, n_retrieved
        For text models: general text to retrieve the subdomain from; see `SSAEDebiaser`.
    d_sae, k : int or None, default=None
        None: 2048 and 32 for text models; for others 8 times the width, and a sixteenth of it but at least 4.
    architecture, tilt, train_tokens
        See `SAEConfig`; `train_tokens` is 300 000 by default, 200 passes over texts of a small team's data.
    apart : float, default=0
        For classifiers that read no tokens, where counterfactuals are known: above 0, SAEs are trained also on the
        counterfactuals' vectors, and on both moved apart by this many times their difference
        (`ssae_debias.audit.training_vectors`). For one vector a text; 2 was chosen on held-out training biographies,
        where without it no latent answers to the swap alone.
    flag : {"auto", "counterfactual", "association", "both"}, default="auto"
        `"auto"`: counterfactual where counterfactuals are known (they need no labels and cannot blame the task),
        else association.
    min_effect, max_q, max_latents, protect
        See `FlagRule`.
    edit : {"zero", "mean", "clamp", "project"}, default="zero"
    realign, erase : bool or None, default=None
        See `ssae_debias.estimators.residue`. What is erased is told by the attribute where fit rows have it, else by
        the words of texts, so that word pairs alone suffice. None: not inside a text model. What is learned there from means over
        tokens moves single tokens far off, and blocks that read them are not linear: on a fine-tuned MiniLM it undid
        what the latents had gained.
    refit : bool, default=True
        Whether the last layer is fitted again under the edit, where it is linear and is given one vector an input.
        Rows count alike by label and side of the words, so no attribute label is needed. The classifier with its own
        head is shown beside it.
    device : str, default="cpu"
    """

    sites: str | Sequence[str] = "auto"
    residue_site: str | None = None
    sae: str | os.PathLike[str] | Mapping[str, Any] = "train"
    corpus: Any = None
    retriever: str | None = "dense"
    n_retrieved: int = 5000
    d_sae: int | None = None
    k: int | None = None
    architecture: Literal["batchtopk", "topk", "relu", "jumprelu"] = "batchtopk"
    tilt: float = 0.3
    train_tokens: int = 300_000
    apart: float = 0.0
    flag: Any = "auto"
    min_effect: float = 0.8
    max_q: float = 0.01
    max_latents: int | None = None
    protect: float | None = None
    edit: Literal["zero", "mean", "clamp", "project"] = "zero"
    realign: bool | None = None
    erase: bool | None = None
    refit: bool = True
    device: str = "cpu"
