"""Dense retrieval: documents whose embeddings point where the seeds' do.

An encoder turns each text into one vector, the mean of its last block's activations over all tokens, special
ones included, as sentence-transformers and Contriever pool [1]_ [2]_. The seeds become one query, or a few:
the centres of their clusters, so that a subdomain of several topics is not averaged into a place between
them. A document's score is its inner product with the nearest query, which is the cosine when vectors are
normalised.

The vectors lie in a FAISS index [3]_: an exact one, or one that searches only the likely places.

References
----------
.. [1] Reimers & Gurevych, Sentence-BERT, EMNLP 2019.
.. [2] Izacard et al., Unsupervised Dense Information Retrieval with Contrastive Learning, TMLR 2022.
.. [3] Douze et al., The Faiss Library, arXiv 2401.08281.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from tqdm.auto import tqdm

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.data.texts import check_texts
from ssae_debias.files import folder_aside, read_manifest, write_manifest
from ssae_debias.retrieval.corpus import BATCH_SIZE, Corpus, CorpusLike
from ssae_debias.retrieval.indexed import IndexedCorpus
from ssae_debias.retrieval.retrieved import BestSoFar, Retrieved, warn_if_fewer
from ssae_debias.retrieval.sampling import sample_documents
from ssae_debias.retrieval.vector_index import new_index, search, unit_rows

if TYPE_CHECKING:
    from ssae_debias.activations import TextModel

_KIND = "dense_retriever"
_INDEX = "index.faiss"


class DenseRetriever:
    """Nearest documents by embedding.

    Parameters
    ----------
    encoder : str, path-like or TextModel, default "demo"
        What `ssae_debias.activations.load_model` takes; ``"demo"`` is the bundled MiniLM.
    index : {"exact", "ivf", "ivfpq", "hnsw"}, default "exact"
        ``"exact"`` compares with every document and keeps 4 d bytes for each; ``"ivf"`` compares with the
        documents in the nearest cells; ``"ivfpq"`` also stores d/8 bytes a document in place of 4 d;
        ``"hnsw"`` walks a graph (fast, 4 d + 256 bytes a document). All but ``"exact"`` may miss documents,
        ``"ivfpq"`` gives rounded scores.
    n_queries : int, default 1
        1: the mean of the seeds' vectors. More: the centres of that many k-means clusters of the seeds.
    normalize : bool, default True
        Scale vectors to length 1, so that scores are cosines.
    pool : {"mean", "cls", "last"}, default "mean"
        How the encoder was trained to be pooled.
    max_length : int, default 128
        Tokens a text; the rest of a longer document is not seen.
    n_probe : int or None
        Cells to search for ``"ivf"`` and ``"ivfpq"``; None takes an eighth of them, more where `n` is large.
    device : str, default "cpu"
        Where an encoder that is given by name is put.
    random_state : int, Generator, RandomState or None, default 0
        For the documents on which an ``"ivf"`` or ``"ivfpq"`` index is trained, and the clusters of the
        seeds.
    verbose : int, default 0
        Above 0, a progress bar.

    Attributes
    ----------
    encoder_ : TextModel
        The encoder.
    index_ : faiss.Index
        The vectors.
    n_documents_ : int
        Documents in the corpus.

    Examples
    --------
    >>> corpus = ["The doctor operated.", "A ship left port.", "He treats patients."]
    >>> found = DenseRetriever().fit(corpus).retrieve(["She is a surgeon."], n=2)
    >>> sorted(found.texts)
    ['He treats patients.', 'The doctor operated.']
    """

    def __init__(
        self,
        encoder: str | os.PathLike[str] | TextModel = "demo",
        index: Literal["exact", "ivf", "ivfpq", "hnsw"] = "exact",
        *,
        n_queries: int = 1,
        normalize: bool = True,
        pool: Literal["mean", "cls", "last"] = "mean",
        max_length: int = 128,
        n_probe: int | None = None,
        device: str = "cpu",
        random_state: RandomState = 0,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.index = index
        self.n_queries = n_queries
        self.normalize = normalize
        self.pool = pool
        self.max_length = max_length
        self.n_probe = n_probe
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, corpus: CorpusLike) -> Self:
        """Embed and index a corpus, a batch at a time.

        Parameters
        ----------
        corpus : Corpus, sequence of str, or path
            See `as_corpus`. It is read once, and once more before for an index that must be trained.

        Returns
        -------
        DenseRetriever
            Itself.

        Raises
        ------
        ValueError
            Unknown `index`, a corpus without documents, or too few for the index asked for.
        OSError
            The encoder can be found neither in a folder nor on the hub.
        """
        from ssae_debias.activations import load_model

        encoder = load_model(self.encoder, device=self.device)
        indexed = IndexedCorpus(corpus)
        index = new_index(self.index, lambda n: self._sample(encoder, indexed, n), encoder.d_model)
        with tqdm(desc="dense: embed", unit=" documents", disable=not self.verbose) as progress:
            for texts in indexed.batches(BATCH_SIZE):
                index.add(self._embed(encoder, texts))
                progress.update(len(texts))
        return self._take(encoder, index, indexed)

    def retrieve(self, seeds: Sequence[str], n: int) -> Retrieved:
        """Find the `n` documents nearest to the seeds.

        Parameters
        ----------
        seeds : sequence of str
            Texts around what is looked for.
        n : int
            How many documents; where the corpus has fewer, all of them with a `UserWarning`.

        Returns
        -------
        Retrieved
            Best first; scores are cosines in [−1, 1] if `normalize`.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        ValueError
            `n` below 1, more queries than seeds, or the corpus has changed since it was indexed.
        """
        seeds = check_texts(seeds, "seeds")
        self._check_fitted()
        best = BestSoFar(n)
        # a document that is among the n best overall is among the n best of its own nearest query
        best.add(*search(self.index_, self._queries(seeds), n, n_probe=self.n_probe))
        ids, scores = best.sorted()
        warn_if_fewer(len(ids), n, f"the index gives no more of its {self.n_documents_} documents")
        return Retrieved(ids, scores, self._corpus.fetch(ids))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the index (neither corpus nor encoder) as a folder with a manifest.

        Raises
        ------
        NotFittedError
            Before `fit` or `load`.
        OSError
            No permission or no space; nothing was changed.
        """
        import faiss

        self._check_fitted()
        parameters = {
            name: getattr(self, name)
            for name in ("index", "n_queries", "normalize", "pool", "max_length", "n_probe")
        }
        encoder = {
            "load": str(self.encoder) if isinstance(self.encoder, str | os.PathLike) else None,
            "name": self.encoder_.name,
            "revision": self.encoder_.revision,
            "fingerprint": self.encoder_.fingerprint,
        }
        with folder_aside(path) as aside:
            faiss.write_index(self.index_, str(aside / _INDEX))
            self._corpus.save(aside)
            write_manifest(aside, _KIND, parameters=parameters, encoder=encoder)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        corpus: CorpusLike | None = None,
        *,
        encoder: str | os.PathLike[str] | TextModel | None = None,
        device: str = "cpu",
    ) -> Self:
        """Load a saved index.

        Parameters
        ----------
        path : path-like
            Folder written by `save`.
        corpus : Corpus, sequence of str, path, or None
            The corpus that was indexed. None opens the file that was indexed, where it was one.
        encoder : str, path-like, TextModel or None
            The encoder that made the index. None loads it by the name it had.
        device : str, default "cpu"
            Where an encoder that is given by name is put.

        Raises
        ------
        DamagedFileError
            A file of the index is missing, altered or of another kind.
        ValueError
            Another encoder than the one that made the index, or corpus or encoder were in memory and are not
            given.
        """
        import faiss

        from ssae_debias.activations import load_model

        folder = Path(path)
        manifest = read_manifest(folder, _KIND)
        facts = manifest["encoder"]
        encoder = facts["load"] if encoder is None else encoder
        if encoder is None:
            raise ValueError(
                f"{folder} was made by an encoder in memory, {facts['name']}; give it as encoder=."
            )
        model = load_model(encoder, device=device)
        if model.fingerprint != facts["fingerprint"]:
            raise ValueError(
                f"{folder} was made by the encoder {facts['name']}, and {model.name} has other weights: "
                "their vectors do not compare. Fit again, or give the encoder that made the index."
            )
        retriever = cls(encoder, device=device, **manifest["parameters"])
        return retriever._take(
            model, faiss.read_index(str(folder / _INDEX)), IndexedCorpus.load(folder, corpus)
        )

    def _take(self, encoder: TextModel, index: Any, corpus: IndexedCorpus) -> Self:
        self.encoder_ = encoder
        self.index_ = index
        self._corpus = corpus
        self.n_documents_ = len(corpus)
        return self

    def _check_fitted(self) -> None:
        if not hasattr(self, "index_"):
            raise NotFittedError(
                "this DenseRetriever has no index yet: call fit(corpus) or DenseRetriever.load(path)."
            )

    def _embed(self, encoder: TextModel, texts: list[str]) -> NDArray[np.float32]:
        from ssae_debias.activations import read_pooled

        site = [site for site in encoder.sites if site.startswith("resid.")][-1]
        with warnings.catch_warnings():
            # an empty document in a corpus is no mistake to warn of at every batch
            warnings.filterwarnings("ignore", message=".* are empty", category=UserWarning)
            vectors = read_pooled(
                encoder, texts, [site], pool=self.pool, include_special=True, max_length=self.max_length
            )[site]
        return unit_rows(vectors) if self.normalize else vectors

    def _sample(self, encoder: TextModel, corpus: Corpus, n: int) -> NDArray[np.float32]:
        return self._embed(encoder, sample_documents(corpus, n, random_state=self.random_state).texts)

    def _queries(self, seeds: list[str]) -> NDArray[np.float32]:
        from sklearn.cluster import KMeans

        if not 1 <= self.n_queries <= len(seeds):
            raise ValueError(
                f"n_queries must lie in 1 … {len(seeds)}, the number of seeds; got {self.n_queries}."
            )
        vectors = self._embed(self.encoder_, seeds)
        if self.n_queries == 1:
            centres = vectors.mean(axis=0, keepdims=True)
        else:
            seed = int(as_generator(self.random_state).integers(2**31))
            centres = KMeans(self.n_queries, n_init=4, random_state=seed).fit(vectors).cluster_centers_
        return unit_rows(centres) if self.normalize else centres.astype(np.float32)
