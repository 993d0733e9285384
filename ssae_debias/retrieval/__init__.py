"""From seeds to a subdomain: the documents of a corpus that are most like a few given texts.

A `Corpus` is read in batches and may be larger than memory. `BM25Retriever` finds documents by shared words,
`DenseRetriever` by meaning, `rerank_tracin` sorts what was found by agreement of gradients under an SAE, and
`retrieve_subdomain` does all of it in one call.
"""

from ssae_debias.retrieval.bm25 import BM25Retriever
from ssae_debias.retrieval.corpus import Corpus, FileCorpus, TextCorpus, as_corpus
from ssae_debias.retrieval.dense import DenseRetriever
from ssae_debias.retrieval.retrieved import Retrieved, Retriever
from ssae_debias.retrieval.sampling import sample_documents
from ssae_debias.retrieval.subdomain import RETRIEVERS, retrieve_subdomain
from ssae_debias.retrieval.tracin import rerank_tracin

__all__ = [
    "RETRIEVERS",
    "BM25Retriever",
    "Corpus",
    "DenseRetriever",
    "FileCorpus",
    "Retrieved",
    "Retriever",
    "TextCorpus",
    "as_corpus",
    "rerank_tracin",
    "retrieve_subdomain",
    "sample_documents",
]
