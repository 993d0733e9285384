from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ssae_debias.activations import load_model
from ssae_debias.retrieval import (
    BM25Retriever,
    DenseRetriever,
    retrieve_subdomain,
    sample_documents,
)
from ssae_debias.sae import SAEConfig, SparseAutoencoder

CORPUS = [
    "The surgeon operated on the patient.",
    "A ship left the port at dawn.",
    "The nurse helped the surgeon in the hospital.",
    "Wheat exports fell in March.",
    "A patient waits for the nurse.",
]
SEEDS = ["a surgeon", "the nurse and her patient"]


@pytest.mark.parametrize("retriever", ["bm25", "dense", "bm25+tracin", "dense+tracin"])
def test_every_retriever_finds_the_subdomain(retriever: str, minilm_path: Path) -> None:
    found = retrieve_subdomain(
        CORPUS,
        SEEDS,
        n=3,
        retriever=retriever,
        model=load_model(minilm_path),
        site="resid.1",
        sae=SparseAutoencoder(384, SAEConfig(d_sae=64)),
        candidates=3,
    )
    assert sorted(found.ids) == [0, 2, 4]
    assert found.texts == [CORPUS[i] for i in found.ids]


def test_tracin_chooses_among_four_times_as_many(minilm_path: Path) -> None:
    place = {
        "model": load_model(minilm_path),
        "site": "resid.1",
        "sae": SparseAutoencoder(384, SAEConfig(d_sae=64)),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = retrieve_subdomain(CORPUS, SEEDS, n=2, retriever="bm25+tracin", **place)
    every = retrieve_subdomain(CORPUS, SEEDS, n=3, retriever="bm25+tracin", candidates=3, **place)
    np.testing.assert_array_equal(found.ids, every.ids[:2])
    with pytest.warns(
        UserWarning, match="4 documents were asked for, 3 found: bm25 gives no more candidates"
    ):
        retrieve_subdomain(CORPUS, SEEDS, n=4, retriever="bm25+tracin", **place)


def test_an_own_retriever_is_fitted_and_used() -> None:
    own = BM25Retriever(shard_size=2)
    found = retrieve_subdomain(CORPUS, SEEDS, n=2, retriever=own)
    assert own.n_documents_ == len(CORPUS)
    np.testing.assert_array_equal(found.ids, retrieve_subdomain(CORPUS, SEEDS, n=2).ids)


class TestBadInput:
    def test_unknown_retriever(self) -> None:
        with pytest.raises(ValueError, match=r"one of bm25, dense, .*got 'tfidf'"):
            retrieve_subdomain(CORPUS, SEEDS, n=1, retriever="tfidf")

    def test_tracin_without_its_parts(self) -> None:
        with pytest.raises(ValueError, match=r"'bm25\+tracin' needs model, sae"):
            retrieve_subdomain(CORPUS, SEEDS, n=1, retriever="bm25+tracin", site="resid.1")

    def test_fewer_candidates_than_wanted(self, minilm_path: Path) -> None:
        sae = SparseAutoencoder(384, SAEConfig(d_sae=64))
        with pytest.raises(ValueError, match="candidates must be at least n = 3, got 2"):
            retrieve_subdomain(
                CORPUS,
                SEEDS,
                n=3,
                retriever="bm25+tracin",
                model=load_model(minilm_path),
                site="resid.1",
                sae=sae,
                candidates=2,
            )

    def test_bare_string_as_seeds(self) -> None:
        with pytest.raises(TypeError):
            retrieve_subdomain(CORPUS, "a surgeon", n=1)


class TestRandomDocuments:
    def test_the_control_draws_by_seed_and_without_replacement(self) -> None:
        texts = [f"document {i}" for i in range(3_000)]
        first, again, other = (
            retrieve_subdomain(texts, SEEDS, n=50, retriever=None, random_state=seed) for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first.ids, again.ids)
        assert set(first.ids) != set(other.ids)
        assert len(set(first.ids)) == 50
        assert first.texts == [texts[i] for i in first.ids]

    def test_every_document_is_equally_likely(self) -> None:
        texts = [str(i) for i in range(1, 41)]
        counts = np.zeros(40)
        for seed in range(600):
            counts[sample_documents(texts, 10, random_state=seed).ids] += 1
        # binomial(600, 1/4): 150 ± 10.6; five standard errors over 40 documents
        assert np.abs(counts - 150).max() < 53

    def test_fewer_than_asked(self) -> None:
        with pytest.warns(UserWarning, match="9 documents were asked for, 5 found"):
            assert len(retrieve_subdomain(CORPUS, SEEDS, n=9, retriever=None)) == 5

    def test_empty_corpus(self, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("")
        with pytest.raises(ValueError, match="no documents"):
            sample_documents(tmp_path / "empty.txt", 1)


@pytest.mark.slow
def test_words_and_meaning_agree_on_real_text(shared: Path, minilm_path: Path) -> None:
    frame = pd.read_parquet(shared / "data" / "wikipedia_leads.parquet").sample(300, random_state=1)
    seeds = ["The earthquake struck the region and killed many people."]
    is_disaster = frame["category"].str.contains("disaster", case=False)
    for retriever in (BM25Retriever(), DenseRetriever(max_length=32)):
        found = retrieve_subdomain(frame["text"], seeds, n=10, retriever=retriever)
        assert is_disaster.iloc[found.ids].mean() > 0.7 > is_disaster.mean()


def test_retrieval_is_imported_without_torch() -> None:
    code = "import sys, ssae_debias.retrieval; print({'torch', 'faiss', 'bm25s'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_vectors_that_are_kept_are_not_computed_again(minilm_path: Path, tmp_path: Path) -> None:
    first = retrieve_subdomain(CORPUS, SEEDS, n=2, retriever="dense", cache_dir=tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert written
    again = retrieve_subdomain(CORPUS, SEEDS[:1], n=3, retriever="dense", cache_dir=tmp_path)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert set(first.ids[:1]) <= set(again.ids)
