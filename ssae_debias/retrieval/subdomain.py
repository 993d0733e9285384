"""From seeds to a subdomain in one call.

The subdomain on which an SSAE is trained is a small seed set grown by retrieval: by words (BM25), by meaning
(dense), and either re-ranked by what would teach the SAE the same (TracIn). On arXiv Physics the paper found
TracIn with either ≥ dense > BM25 > random documents [1]_.

References
----------
.. [1] Muhamed et al., Decoding Dark Matter: Specialized Sparse Autoencoders, NAACL 2025 Findings.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ssae_debias.data.randomness import RandomState
from ssae_debias.data.texts import check_texts
from ssae_debias.retrieval.bm25 import BM25Retriever
from ssae_debias.retrieval.corpus import CorpusLike
from ssae_debias.retrieval.dense import DenseRetriever
from ssae_debias.retrieval.retrieved import Retrieved, Retriever, warn_if_fewer
from ssae_debias.retrieval.sampling import sample_documents
from ssae_debias.retrieval.tracin import rerank_tracin

if TYPE_CHECKING:
    from ssae_debias.activations import TextModel
    from ssae_debias.sae import SparseAutoencoder

RETRIEVERS = ("bm25", "dense", "bm25+tracin", "dense+tracin")


def retrieve_subdomain(
    corpus: CorpusLike,
    seeds: Sequence[str],
    *,
    n: int,
    retriever: str | Retriever | None = "bm25",
    encoder: str | os.PathLike[str] | TextModel = "demo",
    model: TextModel | None = None,
    site: str | None = None,
    sae: SparseAutoencoder | None = None,
    tilt: float = 0.0,
    candidates: int | None = None,
    max_length: int = 128,
    cache_dir: str | os.PathLike[str] | None = None,
    random_state: RandomState = 0,
    verbose: int = 0,
) -> Retrieved:
    """Find the `n` documents of a corpus that are most like the seeds.

    Parameters
    ----------
    corpus : Corpus, sequence of str, or path
        See `as_corpus`.
    seeds : sequence of str
        Texts around what is looked for: the task's texts, sentences about the attribute, or any others.
    n : int
        How many documents.
    retriever : {"bm25", "dense", "bm25+tracin", "dense+tracin"}, Retriever or None, default "bm25"
        None draws documents at random: what the others are to be compared with. For settings beyond those
        here, give a `BM25Retriever` or `DenseRetriever`; it is fitted on `corpus`.
    encoder : str, path-like or TextModel, default "demo"
        For dense retrieval.
    model, site, sae : TextModel, str, SparseAutoencoder
        For TracIn, which needs all three: see `rerank_tracin`.
    tilt : float, default 0
        For TracIn.
    candidates : int or None
        How many documents TracIn chooses from; None takes 4 n. The choice is ours: the paper does not state
        its own.
    max_length : int, default 128
        Tokens a text, for dense retrieval and TracIn.
    cache_dir : path-like or None
        Folder of this corpus, in which dense retrieval keeps its vectors: a second call, or one with other seeds,
        embeds nothing. See `DenseRetriever`.
    random_state : int, Generator, RandomState or None, default 0
        For the random draw and for training an approximate index.
    verbose : int, default 0
        Above 0, progress bars.

    Returns
    -------
    Retrieved
        Best first, with the scores of the last step. Fewer than `n` with a `UserWarning` where there are no
        more.

    Raises
    ------
    ValueError
        Unknown `retriever`, or TracIn without `model`, `site` and `sae`.

    Examples
    --------
    >>> corpus = ["The surgeon operated.", "A ship left port.", "A nurse helped the surgeon."]
    >>> retrieve_subdomain(corpus, ["surgeon and nurse"], n=2).ids.tolist()
    [2, 0]
    """
    seeds = check_texts(seeds, "seeds")
    if retriever is None:
        drawn = sample_documents(corpus, n, random_state=random_state)
        warn_if_fewer(len(drawn), n, "the corpus holds no more")
        return drawn
    if isinstance(retriever, Retriever):
        return retriever.fit(corpus).retrieve(seeds, n)
    if retriever not in RETRIEVERS:
        raise ValueError(
            f"retriever must be None, a Retriever, or one of {', '.join(RETRIEVERS)}; got {retriever!r}."
        )

    first: Retriever
    if retriever.startswith("bm25"):
        first = BM25Retriever(verbose=verbose)
    else:
        first = DenseRetriever(
            encoder, max_length=max_length, cache_dir=cache_dir, random_state=random_state, verbose=verbose
        )
    if not retriever.endswith("+tracin"):
        return first.fit(corpus).retrieve(seeds, n)

    if model is None or site is None or sae is None:
        missing = [name for name, given in (("model", model), ("site", site), ("sae", sae)) if given is None]
        raise ValueError(f"retriever={retriever!r} needs {', '.join(missing)}.")
    if candidates is None:
        candidates = 4 * n
    if candidates < n:
        raise ValueError(f"candidates must be at least n = {n}, got {candidates}.")
    with warnings.catch_warnings():
        # fewer candidates than asked for are no loss while there are n
        warnings.filterwarnings("ignore", message=".* documents were asked for", category=UserWarning)
        found = first.fit(corpus).retrieve(seeds, candidates)
    warn_if_fewer(len(found), n, f"{retriever.removesuffix('+tracin')} gives no more candidates")
    return rerank_tracin(
        found, seeds, model=model, site=site, sae=sae, n=n, tilt=tilt, max_length=max_length, verbose=verbose
    )
