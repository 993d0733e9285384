"""Dense retrieval: documents whose embeddings point where the seeds' do.

An encoder turns each text into one vector, the mean of its last block's activations over all tokens, special
ones included, as sentence-transformers and Contriever pool [1]_ [2]_. The seeds become one query, or a few:
the centres of their clusters, so that a subdomain of several topics is not averaged into a place between
them. A document's score is its inner product with the nearest query, which is the cosine when vectors are
normalised.

The vectors lie in a FAISS index [3]_: an exact one, or one that searches only the likely places. It is made
on disk, in shards, and searched there shard by shard: of a corpus of any size, one batch of texts and one
shard of vectors are in memory.

References
----------
.. [1] Reimers & Gurevych, Sentence-BERT, EMNLP 2019.
.. [2] Izacard et al., Unsupervised Dense Information Retrieval with Contrastive Learning, TMLR 2022.
.. [3] Douze et al., The Faiss Library, arXiv 2401.08281.
"""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError

from ssae_debias.data.randomness import RandomState, as_generator
from ssae_debias.data.texts import check_texts
from ssae_debias.files import folder_aside, read_manifest, request_key, write_manifest
from ssae_debias.retrieval.corpus import CorpusLike
from ssae_debias.retrieval.embedding import embed_corpus
from ssae_debias.retrieval.indexed import IndexedCorpus
from ssae_debias.retrieval.retrieved import Retrieved, warn_if_fewer
from ssae_debias.retrieval.sharded_index import ShardedIndex
from ssae_debias.retrieval.vector_index import chosen_index, unit_rows

if TYPE_CHECKING:
    from ssae_debias.activations import TextModel

_KIND = "dense_retriever"
# part of what names a folder in `cache_dir`: to be raised when vectors or files come to be made in another way
_LAYOUT = 1


class DenseRetriever:
    """Nearest documents by embedding, in a corpus of any size.

    Parameters
    ----------
    encoder : str, path-like or TextModel, default "demo"
        What `ssae_debias.activations.load_model` takes; ``"demo"`` is the bundled MiniLM.
    index : {"exact", "ivf", "ivfpq", "hnsw", "auto"}, default "exact"
        ``"exact"`` compares with every document and keeps 4 d bytes for each; ``"ivf"`` compares with the
        documents in the nearest cells; ``"ivfpq"`` also stores d/8 + 8 bytes a document in place of 4 d;
        ``"hnsw"`` walks a graph (fast, 4 d + 256 bytes a document). All but ``"exact"`` may miss documents,
        ``"ivfpq"`` gives rounded scores. ``"auto"`` is ``"exact"`` up to a million documents and ``"ivfpq"``
        beyond, which pays for an index that is saved and searched many times: a single exact search, which
        reads every vector once, is over before product quantisation is trained.
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
    shard_size : int, default 65_536
        Documents a shard. The memory needed grows with it, by 8 d bytes for each (200 MB at d = 384); what
        is found does not depend on it, but for ``"hnsw"``.
    directory : path-like or None
        Folder in which a temporary folder for vectors and index is made; None takes the system's. It needs
        4 d bytes a document, and what the index takes. It disappears with the retriever: `save` what shall
        stay.
    cache_dir : path-like or None
        Folder in which vectors and index are kept, in place of a temporary one: a `fit` that was killed goes
        on after its last whole shard and ends with the same bytes, and a `fit` of the same corpus embeds
        nothing. It may serve several encoders and settings, each of which has a subfolder, but only one
        corpus, and one process at a time.
    random_state : int, Generator, RandomState or None, default 0
        For the documents on which an ``"ivf"`` or ``"ivfpq"`` index is trained, and the clusters of the
        seeds.
    verbose : int, default 0
        Above 0, a progress bar.

    Attributes
    ----------
    encoder_ : TextModel
        The encoder.
    index_ : ShardedIndex
        The vectors; ``index_.kind`` is the kind of index that ``"auto"`` chose, ``index_.shards`` the files,
        which FAISS reads.
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
        index: Literal["exact", "ivf", "ivfpq", "hnsw", "auto"] = "exact",
        *,
        n_queries: int = 1,
        normalize: bool = True,
        pool: Literal["mean", "cls", "last"] = "mean",
        max_length: int = 128,
        n_probe: int | None = None,
        device: str = "cpu",
        shard_size: int = 65_536,
        directory: str | os.PathLike[str] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
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
        self.shard_size = shard_size
        self.directory = directory
        self.cache_dir = cache_dir
        self.random_state = random_state
        self.verbose = verbose
        self._discard: weakref.finalize[..., DenseRetriever] | None = None

    def fit(self, corpus: CorpusLike) -> Self:
        """Embed and index a corpus, a batch at a time.

        Parameters
        ----------
        corpus : Corpus, sequence of str, or path
            See `as_corpus`. It is read once.

        Returns
        -------
        DenseRetriever
            Itself.

        Raises
        ------
        ValueError
            Unknown `index`, a `shard_size` below 1, a corpus without documents, or too few for the index
            asked for; `cache_dir` holds the vectors of another corpus, or is given with an encoder that
            carries hooks, whose fingerprint does not tell what it computes.
        OSError
            The encoder can be found neither in a folder nor on the hub; no space or no permission (what is
            in `cache_dir` stays, and a later `fit` goes on from it).

        Warns
        -----
        UserWarning
            A damaged file was found in `cache_dir` and is made again.
        """
        from ssae_debias.activations import load_model

        chosen_index(self.index, 0)
        encoder = load_model(self.encoder, device=self.device)
        indexed = IndexedCorpus(corpus)
        if self.cache_dir is not None:
            request = self._request(encoder)
            index = self._build(encoder, indexed, Path(self.cache_dir) / request_key(request), request)
            return self._take(encoder, index, indexed)
        with ExitStack() as temporary:
            folder = temporary.enter_context(TemporaryDirectory(prefix="dense-", dir=self.directory))
            index = self._build(encoder, indexed, Path(folder), {})
            kept = temporary.pop_all()
        return self._take(encoder, index, indexed, discard=weakref.finalize(self, kept.close))

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
        DamagedFileError
            A file of the index is gone or changed.
        """
        seeds = check_texts(seeds, "seeds")
        self._check_fitted()
        ids, scores = self.index_.search(self._queries(seeds), n, n_probe=self.n_probe)
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
        self._check_fitted()
        parameters = {
            name: getattr(self, name)
            for name in ("index", "n_queries", "normalize", "pool", "max_length", "n_probe", "shard_size")
        }
        encoder = {
            "load": str(self.encoder) if isinstance(self.encoder, str | os.PathLike) else None,
            "name": self.encoder_.name,
            "revision": self.encoder_.revision,
            "fingerprint": self.encoder_.fingerprint,
        }
        with folder_aside(path) as aside:
            index = {"kind": self.index_.kind, "lengths": self.index_.save(aside)}
            self._corpus.save(aside)
            write_manifest(aside, _KIND, parameters=parameters, encoder=encoder, index=index)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        corpus: CorpusLike | None = None,
        *,
        encoder: str | os.PathLike[str] | TextModel | None = None,
        device: str = "cpu",
    ) -> Self:
        """Load a saved index; its shards stay on disk and are read when needed.

        Parameters
        ----------
        path : path-like
            Folder written by `save`; it must stay in place while the retriever is used.
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
        # before there were shards, an index was one file, and of the kind asked for
        facts = manifest.get("index", {"kind": manifest["parameters"]["index"], "lengths": None})
        index = ShardedIndex.open(folder, facts["kind"], facts["lengths"])
        return retriever._take(model, index, IndexedCorpus.load(folder, corpus))

    def _build(
        self, encoder: TextModel, corpus: IndexedCorpus, folder: Path, request: dict[str, Any]
    ) -> ShardedIndex:
        vectors = embed_corpus(
            folder,
            corpus,
            lambda texts: self._embed(encoder, texts),
            encoder.d_model,
            shard_size=self.shard_size,
            request=request,
            verbose=self.verbose,
        )
        seed = int(as_generator(self.random_state).integers(2**31))
        return ShardedIndex.build(vectors, self.index, seed=seed, verbose=self.verbose)

    def _request(self, encoder: TextModel) -> dict[str, Any]:
        """All that a corpus' vectors depend on."""
        from ssae_debias.activations.building import refuse_hooks

        refuse_hooks(encoder.module)
        return {
            "layout": _LAYOUT,
            "encoder": encoder.fingerprint,
            "pool": self.pool,
            "normalize": self.normalize,
            "max_length": self.max_length,
            "shard_size": self.shard_size,
        }

    def _take(
        self,
        encoder: TextModel,
        index: ShardedIndex,
        corpus: IndexedCorpus,
        discard: weakref.finalize[..., DenseRetriever] | None = None,
    ) -> Self:
        if self._discard is not None:
            self._discard()
        self._discard = discard
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
