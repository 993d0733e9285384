from __future__ import annotations

import gc
import json
import math
import warnings
from collections import Counter
from pathlib import Path

import bm25s
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from ssae_debias.files import DamagedFileError
from ssae_debias.retrieval import BM25Retriever, FileCorpus
from ssae_debias.retrieval.retrieved import BestSoFar, Retrieved

WORDS = ["surgeon", "nurse", "she", "he", "the", "ship", "dawn", "x", "Ärztin", "42nd"]


def plain_bm25s(texts: list[str], seeds: list[str], **parameters: float) -> np.ndarray:
    """Scores of one bm25s index over everything, by bm25s' own way in."""
    index = bm25s.BM25(**parameters)
    tokens = bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)
    index.index(tokens, show_progress=False)
    query = bm25s.tokenize(seeds, stopwords="en", return_ids=False, show_progress=False)
    known = [word for seed in query for word in seed if word in index.vocab_dict]
    return index.get_scores(known) if known else np.zeros(len(texts), dtype=np.float32)


documents = st.lists(st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join), min_size=1, max_size=25)


@settings(max_examples=60, deadline=None)
@given(
    texts=documents,
    seeds=documents,
    shard_size=st.integers(1, 30),
    k1=st.floats(0, 3),
    b=st.floats(0, 1),
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_shards_equal_one_bm25s_index_bit_for_bit(
    texts: list[str], seeds: list[str], shard_size: int, k1: float, b: float
) -> None:
    # a first document with a word: bm25s itself cannot index a corpus of none
    texts = ["surgeon and nurse", *texts]
    found = BM25Retriever(k1, b, shard_size=shard_size).fit(texts).retrieve(seeds, n=len(texts))
    expected = plain_bm25s(texts, seeds, k1=k1, b=b)
    order = np.lexsort((np.arange(len(texts)), -expected))
    order = order[expected[order] > 0]
    np.testing.assert_array_equal(found.ids, order)
    np.testing.assert_array_equal(found.scores, expected[order])
    assert found.texts == [texts[i] for i in order]


def test_score_is_the_published_formula() -> None:
    texts = ["surgeon surgeon nurse", "nurse ship", "ship ship ship dawn dawn"]
    found = BM25Retriever(k1=1.2, b=0.6).fit(texts).retrieve(["surgeon nurse nurse"], n=2)
    average = 10 / 3

    def score(text: str) -> float:
        words = Counter(text.split())
        return sum(
            math.log(1 + (3 - df + 0.5) / (df + 0.5))
            * words[word]
            / (words[word] + 1.2 * (0.4 + 0.6 * words.total() / average))
            for word, df in [("surgeon", 1), ("nurse", 2), ("nurse", 2)]
        )

    assert found.ids.tolist() == [0, 1]
    np.testing.assert_allclose(found.scores, [score(texts[0]), score(texts[1])], rtol=1e-6)


@pytest.mark.parametrize("shard_size", [700, 5_000, 100_000])
def test_real_corpus_equals_one_bm25s_index(shared: Path, shard_size: int) -> None:
    texts = pd.read_parquet(shared / "data" / "reuters21578.parquet")["text"].to_list()[:8_000]
    seeds = ["The central bank raised interest rates.", "Wheat exports fell.", "wheat harvest"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some articles are empty
        found = BM25Retriever(shard_size=shard_size).fit(texts).retrieve(seeds, n=500)
    expected = plain_bm25s(texts, seeds)
    np.testing.assert_array_equal(found.scores, expected[found.ids])
    np.testing.assert_array_equal(found.scores, np.sort(expected)[::-1][:500])


def test_finds_the_category_it_was_asked_for(shared: Path) -> None:
    frame = pd.read_parquet(shared / "data" / "wikipedia_leads.parquet")
    seeds = ["The restaurant is run by a chef and serves dishes of its own cuisine."]
    found = BM25Retriever(shard_size=4_000).fit(frame["text"]).retrieve(seeds, n=200)
    share = frame["category"].str.contains("restaurant", case=False)
    assert share.iloc[found.ids].mean() > 0.8 > share.mean()


class TestSaved:
    def test_round_trip(self, tmp_path: Path) -> None:
        texts = ["a surgeon", "a nurse and a surgeon", "ships", "nurse"]
        retriever = BM25Retriever(k1=0.9, b=0.4, stopwords=["and"], shard_size=3).fit(texts)
        before = retriever.retrieve(["surgeon"], n=2)
        retriever.save(tmp_path / "index")
        again = BM25Retriever.load(tmp_path / "index", corpus=texts)
        after = again.retrieve(["surgeon"], n=2)
        assert (again.k1, again.b, again.stopwords, again.n_documents_) == (0.9, 0.4, ["and"], 4)
        assert after.texts == before.texts
        np.testing.assert_array_equal(after.scores, before.scores)

    def test_a_corpus_in_files_is_found_again(self, tmp_path: Path) -> None:
        path = tmp_path / "corpus.txt"
        path.write_text("a surgeon\na nurse\n")
        BM25Retriever().fit(FileCorpus(path)).save(tmp_path / "index")
        assert BM25Retriever.load(tmp_path / "index").retrieve(["nurse"], n=1).texts == ["a nurse"]

    def test_a_shard_opens_in_bm25s(self, tmp_path: Path) -> None:
        retriever = BM25Retriever().fit(["a surgeon", "a nurse"])
        retriever.save(tmp_path / "index")
        index = bm25s.BM25.load(tmp_path / "index" / "00000", load_vocab=False)
        vocabulary = json.loads((tmp_path / "index" / "vocabulary.json").read_text())
        assert index.get_scores_from_ids([vocabulary["nurse"]]).argmax() == 1

    def test_damage_is_named(self, tmp_path: Path) -> None:
        BM25Retriever().fit(["a surgeon", "a nurse"]).save(tmp_path / "index")
        data = tmp_path / "index" / "00000" / "data.csc.index.npy"
        data.write_bytes(data.read_bytes()[:-1] + b"\x7f")
        with pytest.raises(DamagedFileError, match=r"data\.csc\.index\.npy"):
            BM25Retriever.load(tmp_path / "index")

    def test_the_temporary_index_goes_with_the_retriever(self, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            retriever = BM25Retriever(directory=tmp_path).fit(["a surgeon"]).fit(["a nurse"])
            assert len(list(tmp_path.iterdir())) == 1
            assert retriever.retrieve(["nurse"], n=1).texts == ["a nurse"]
            del retriever
            gc.collect()
            assert not list(tmp_path.iterdir())

    def test_a_failing_corpus_leaves_nothing_and_keeps_the_old_index(self, tmp_path: Path) -> None:
        (tmp_path / "work").mkdir()
        (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n')
        retriever = BM25Retriever(directory=tmp_path / "work", shard_size=1).fit(["a surgeon"])
        with pytest.raises(TypeError, match="row 1"):
            retriever.fit(tmp_path / "bad.jsonl")
        assert len(list((tmp_path / "work").iterdir())) == 1
        assert retriever.retrieve(["surgeon"], n=1).texts == ["a surgeon"]


class TestFewerThanAsked:
    def test_documents_without_a_shared_word_are_not_returned(self) -> None:
        with pytest.warns(UserWarning, match="3 documents were asked for, 1 found"):
            found = BM25Retriever().fit(["a surgeon", "a ship", "dawn"]).retrieve(["surgeon"], n=3)
        assert found.ids.tolist() == [0]

    @pytest.mark.parametrize("texts", [["a surgeon"], ["a", "b"]])
    def test_no_shared_word_at_all(self, texts: list[str]) -> None:
        with pytest.warns(UserWarning, match="0 found"):
            found = BM25Retriever().fit(texts).retrieve(["nurse"], n=1)
        assert len(found) == 0
        assert found.texts == []


class TestBadInput:
    def test_unfitted(self, tmp_path: Path) -> None:
        with pytest.raises(NotFittedError, match="fit"):
            BM25Retriever().retrieve(["a"], n=1)
        with pytest.raises(NotFittedError):
            BM25Retriever().save(tmp_path / "index")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("parameters", [{"k1": -1}, {"b": 1.5}, {"shard_size": 0}])
    def test_parameters(self, parameters: dict[str, float]) -> None:
        with pytest.raises(ValueError, match=next(iter(parameters))):
            BM25Retriever(**parameters).fit(["a"])  # type: ignore[arg-type]

    def test_n(self) -> None:
        with pytest.raises(ValueError, match="n must be at least 1"):
            BM25Retriever().fit(["a surgeon"]).retrieve(["surgeon"], n=0)

    def test_bare_string_as_seeds(self) -> None:
        with pytest.raises(TypeError):
            BM25Retriever().fit(["a surgeon"]).retrieve("surgeon", n=1)


@given(
    scores=st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=40),
    n=st.integers(1, 45),
    cut=st.integers(1, 40),
)
def test_the_best_do_not_depend_on_how_the_stream_was_cut(scores: list[float], n: int, cut: int) -> None:
    best = BestSoFar(n)
    for start in range(0, len(scores), cut):
        part = scores[start : start + cut]
        best.add(np.arange(start, start + len(part)), part)
    expected = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:n]
    ids, kept = best.sorted()
    assert ids.tolist() == expected
    assert kept.tolist() == [scores[i] for i in expected]


def test_retrieved_must_be_whole_and_sorted() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        Retrieved(np.array([1, 2]), np.array([1.0]), ["a", "b"])
    with pytest.raises(ValueError, match="best first"):
        Retrieved(np.array([1, 2]), np.array([1.0, 2.0]), ["a", "b"])
