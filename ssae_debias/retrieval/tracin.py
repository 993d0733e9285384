r"""TracIn re-ranking: of the documents found, those that would teach the SAE what the seeds would.

Words and embeddings say that two texts are alike; whether training on one lowers the other's loss is said by
their gradients. To first order, a step on document z changes the loss of seed s by −η ∇ℓ(z)·∇ℓ(s) [1]_. So a
document's score is the agreement of its gradient with the seeds' mean gradient, under an SAE trained on
general text [2]_, taken over all its weights and biases.

Plain inner products favour documents with a large loss, long gradients that point a little everywhere; the
cosine is therefore the default. What the SSAE paper takes is not known: the choice is ours.

References
----------
.. [1] Pruthi et al., Estimating Training Data Influence by Tracing Gradient Descent, NeurIPS 2020, section 3.
.. [2] Muhamed et al., Decoding Dark Matter: Specialized Sparse Autoencoders, NAACL 2025 Findings
   (SAE-TracIn).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from ssae_debias.data.texts import check_texts
from ssae_debias.retrieval.retrieved import Retrieved

if TYPE_CHECKING:
    from ssae_debias.activations import TextModel
    from ssae_debias.retrieval.sae_gradients import SAEGradient, TextGradients
    from ssae_debias.sae import SparseAutoencoder

SIMILARITIES = ("cosine", "dot")


def rerank_tracin(
    retrieved: Retrieved,
    seeds: Sequence[str],
    *,
    model: TextModel,
    site: str,
    sae: SparseAutoencoder,
    n: int | None = None,
    tilt: float = 0.0,
    similarity: Literal["cosine", "dot"] = "cosine",
    max_length: int = 128,
    batch_tokens: int = 2048,
    include_special: bool = False,
    verbose: int = 0,
) -> Retrieved:
    """Sort retrieved documents by how well their gradient agrees with the seeds'.

    Parameters
    ----------
    retrieved : Retrieved
        Candidates: more than are wanted in the end.
    seeds : sequence of str
        Texts around what is looked for; each weighs the same, whatever its length.
    model : TextModel
        The model whose activations the SAE reads.
    site : str
        Where.
    sae : SparseAutoencoder
        Trained on general text at that site.
    n : int or None
        How many to keep; None keeps all.
    tilt : float, default 0
        A text's loss is the tilted risk of its tokens' squared errors, in units of their mean; 0 is the mean.
    similarity : {"cosine", "dot"}, default "cosine"
        "dot" is TracIn's own form and favours documents that are badly reconstructed.
    max_length : int, default 128
        Tokens a text.
    batch_tokens : int, default 2048
        Tokens a batch; memory is a few times ``batch_tokens · d_sae`` floats.
    include_special : bool, default False
        Whether special tokens count.
    verbose : int, default 0
        Above 0, progress bars.

    Returns
    -------
    Retrieved
        Best first; ties in the order of `retrieved`. Documents without a counted token come last, at −inf.

    Raises
    ------
    ValueError
        Unknown `similarity` or `site`, an SAE of another width than the site, or seeds without any token.

    Examples
    --------
    >>> from ssae_debias.activations import load_model
    >>> from ssae_debias.sae import SAEConfig, SparseAutoencoder
    >>> found = Retrieved(np.array([4, 2]), np.array([1.0, 0.5]), ["A ship left port.", "She is a nurse."])
    >>> sae = SparseAutoencoder(384, SAEConfig(d_sae=64))
    >>> place = {"model": load_model("demo"), "site": "resid.1", "sae": sae}
    >>> rerank_tracin(found, ["She is a nurse."], **place, n=1).texts
    ['She is a nurse.']
    """
    from ssae_debias.activations import read_tokens
    from ssae_debias.retrieval.sae_gradients import TextGradients

    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {', '.join(SIMILARITIES)}; got {similarity!r}.")
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, or None for all; got {n}.")
    seeds = check_texts(seeds, "seeds")
    if not len(retrieved):
        return retrieved

    def gradients(texts: list[str]) -> Iterator[tuple[NDArray[np.int64], TextGradients]]:
        """Which texts, and their gradients, a batch at a time; texts without a token are in none."""
        for batch in read_tokens(
            model,
            texts,
            [site],
            max_length=max_length,
            batch_tokens=batch_tokens,
            include_special=include_special,
            verbose=verbose,
        ):
            x = batch.activations[site]
            if x.shape[1] != sae.d_in:
                raise ValueError(
                    f"the SAE reads vectors of width {sae.d_in}, but those at {site} of {model.name} "
                    f"have width {x.shape[1]}."
                )
            starts = np.flatnonzero(np.diff(batch.text_index, prepend=-1))
            lengths = np.diff(starts, append=len(batch.text_index)).tolist()
            yield batch.text_index[starts], TextGradients.of(sae, x.to(sae.W_dec), lengths, tilt=tilt)

    target: SAEGradient | None = None
    for _, batch in gradients(seeds):
        target = batch.total() if target is None else target + batch.total()
    if target is None:
        raise ValueError("none of the seeds has a token that counts; give seeds with words.")
    target = target.scaled(1 / len(seeds))

    scores = np.full(len(retrieved), -np.inf, dtype=np.float32)
    for index, batch in gradients(retrieved.texts):
        agreement = batch.dot(target)
        if similarity == "cosine":
            lengths = batch.norms() * target.norm()
            # a gradient of zero agrees with nothing
            agreement = agreement / lengths.masked_fill(lengths == 0, 1)
        scores[index] = agreement.cpu().numpy()
    order = np.argsort(-scores, kind="stable")[:n]
    return Retrieved(retrieved.ids[order], scores[order], [retrieved.texts[i] for i in order])
