from __future__ import annotations

import gc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError

from ssae_debias.activations import TextModel, load_model
from ssae_debias.files import MANIFEST, DamagedFileError, read_json, write_json
from ssae_debias.retrieval import DenseRetriever, Retriever
from ssae_debias.retrieval.vector_index import new_index, search, unit_rows

SEEDS = ["The restaurant serves French dishes.", "A chef opened the restaurant in the old town."]


@pytest.fixture(scope="module")
def encoder(minilm_path: Path) -> TextModel:
    return load_model(minilm_path)


@pytest.fixture(scope="module")
def leads(shared: Path) -> pd.DataFrame:
    frame = pd.read_parquet(shared / "data" / "wikipedia_leads.parquet")
    return frame.sample(240, random_state=0).reset_index(drop=True)


@pytest.fixture(scope="module")
def fitted(encoder: TextModel, leads: pd.DataFrame) -> DenseRetriever:
    return DenseRetriever(encoder, max_length=32).fit(leads["text"])


def sentence_embeddings(path: Path, texts: list[str], max_length: int) -> np.ndarray:
    """Mean pooling as sentence-transformers' model card writes it, with plain transformers."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(path)(
        texts, padding=True, truncation=True, max_length=max_length, return_tensors="pt"
    )
    with torch.no_grad():
        last = AutoModel.from_pretrained(path)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1).float()
    pooled = (last * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(pooled).numpy()


def test_scores_are_cosines_of_the_published_embeddings(
    fitted: DenseRetriever, minilm_path: Path, leads: pd.DataFrame
) -> None:
    found = fitted.retrieve(SEEDS, n=10)
    documents = sentence_embeddings(minilm_path, leads["text"].to_list(), 32)
    query = sentence_embeddings(minilm_path, SEEDS, 32).mean(axis=0)
    expected = documents @ (query / np.linalg.norm(query))
    np.testing.assert_array_equal(found.ids, np.argsort(-expected)[:10])
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1][:10], atol=1e-5)
    assert found.texts == leads["text"].iloc[found.ids].to_list()


def test_finds_the_category_it_was_asked_for(fitted: DenseRetriever, leads: pd.DataFrame) -> None:
    is_restaurant = leads["category"].str.contains("restaurant", case=False)
    found = fitted.retrieve(SEEDS, n=15)
    assert is_restaurant.iloc[found.ids].mean() > 0.9 > is_restaurant.mean()


def test_several_queries_keep_two_topics_apart(fitted: DenseRetriever, leads: pd.DataFrame) -> None:
    seeds = [*SEEDS, "The earthquake destroyed the city.", "Hundreds died in the flood."]
    fitted.n_queries = 2
    try:
        found = fitted.retrieve(seeds, n=20)
    finally:
        fitted.n_queries = 1
    # each topic by itself finds what both together find at their top
    singles = [set(fitted.retrieve(part, n=20).ids) for part in (seeds[:2], seeds[2:])]
    assert set(found.ids) <= singles[0] | singles[1]
    assert all(set(found.ids) & single for single in singles)
    assert len(set(found.ids)) == 20


def test_normalize_false_gives_inner_products(encoder: TextModel) -> None:
    texts = ["The surgeon operated on her.", "A ship."]
    found = DenseRetriever(encoder, normalize=False).fit(texts).retrieve(texts[:1], n=1)
    from ssae_debias.activations import read_pooled

    vectors = read_pooled(encoder, texts, ["resid.5"], include_special=True)["resid.5"]
    assert found.scores[0] == pytest.approx(max(vectors @ vectors[0]), rel=1e-5)


class TestSaved:
    def test_round_trip(
        self, fitted: DenseRetriever, leads: pd.DataFrame, encoder: TextModel, tmp_path: Path
    ) -> None:
        fitted.save(tmp_path / "index")
        again = DenseRetriever.load(tmp_path / "index", corpus=leads["text"], encoder=encoder)
        before, after = fitted.retrieve(SEEDS, n=7), again.retrieve(SEEDS, n=7)
        assert after.texts == before.texts
        np.testing.assert_array_equal(after.scores, before.scores)
        assert (again.max_length, again.n_documents_) == (32, 240)

    def test_demo_encoder_and_file_are_found_again(self, minilm_path: Path, tmp_path: Path) -> None:
        (tmp_path / "corpus.txt").write_text("a surgeon\na ship\n")
        DenseRetriever("demo").fit(tmp_path / "corpus.txt").save(tmp_path / "index")
        assert DenseRetriever.load(tmp_path / "index").retrieve(["a nurse"], n=1).texts == ["a surgeon"]

    def test_another_encoder_is_refused(self, encoder: TextModel, tmp_path: Path) -> None:
        DenseRetriever(encoder).fit(["a surgeon"]).save(tmp_path / "index")
        with pytest.raises(ValueError, match="give it as encoder="):
            DenseRetriever.load(tmp_path / "index", corpus=["a surgeon"])
        other = load_model("demo")
        with torch.no_grad():
            next(other.module.parameters()).add_(1)
        with pytest.raises(ValueError, match="other weights"):
            DenseRetriever.load(tmp_path / "index", corpus=["a surgeon"], encoder=other)

    def test_damage_is_named(self, encoder: TextModel, tmp_path: Path) -> None:
        DenseRetriever(encoder).fit(["a surgeon"]).save(tmp_path / "index")
        index = tmp_path / "index" / "index.faiss"
        index.write_bytes(index.read_bytes()[:-8])
        with pytest.raises(DamagedFileError, match=r"index\.faiss"):
            DenseRetriever.load(tmp_path / "index", corpus=["a surgeon"], encoder=encoder)

    def test_several_shards(
        self, fitted: DenseRetriever, leads: pd.DataFrame, encoder: TextModel, tmp_path: Path
    ) -> None:
        cut = DenseRetriever(encoder, max_length=32, shard_size=100).fit(leads["text"])
        cut.save(tmp_path / "index")
        again = DenseRetriever.load(tmp_path / "index", corpus=leads["text"], encoder=encoder)
        assert [shard.n for shard in again.index_.shards] == [100, 100, 40]
        assert again.shard_size == 100
        whole, before, after = (which.retrieve(SEEDS, n=7) for which in (fitted, cut, again))
        np.testing.assert_array_equal(after.scores, before.scores)
        # other texts in a batch with it move a vector by what floats round
        np.testing.assert_allclose(before.scores, whole.scores, atol=1e-5)
        assert after.texts == before.texts == whole.texts
        file = tmp_path / "index" / "index-00001.faiss"
        file.write_bytes(file.read_bytes()[:-8])
        with pytest.raises(DamagedFileError, match=r"index-00001\.faiss"):
            DenseRetriever.load(tmp_path / "index", corpus=leads["text"], encoder=encoder)

    def test_an_index_saved_before_there_were_shards(self, encoder: TextModel, tmp_path: Path) -> None:
        corpus = ["a surgeon", "a ship"]
        DenseRetriever(encoder).fit(corpus).save(tmp_path / "index")
        manifest = read_json(tmp_path / "index" / MANIFEST)
        del manifest["index"], manifest["parameters"]["shard_size"]
        write_json(tmp_path / "index" / MANIFEST, manifest)
        again = DenseRetriever.load(tmp_path / "index", corpus=corpus, encoder=encoder)
        assert (again.index_.kind, again.index_.ntotal) == ("exact", 2)
        assert again.retrieve(["a nurse"], n=1).texts == ["a surgeon"]


class Watched(DenseRetriever):
    """Counts the texts that it embeds."""

    embedded = 0

    def _embed(self, encoder: TextModel, texts: list[str]) -> np.ndarray:
        self.embedded += len(texts)
        return super()._embed(encoder, texts)


class TestFolders:
    def test_a_kept_index_is_found_again(
        self, encoder: TextModel, leads: pd.DataFrame, tmp_path: Path
    ) -> None:
        settings = {"max_length": 8, "shard_size": 50, "cache_dir": tmp_path}
        texts = leads["text"][:120]
        first = Watched(encoder, **settings).fit(texts)
        assert first.embedded == 120
        again = Watched(encoder, **settings).fit(texts)
        assert again.embedded == 0
        assert len(list(tmp_path.iterdir())) == 1
        np.testing.assert_array_equal(again.retrieve(SEEDS, 9).scores, first.retrieve(SEEDS, 9).scores)
        # the vectors serve every kind of index, and what makes other vectors has a folder of its own
        by_cells = Watched(encoder, index="ivf", n_probe=1_000, **settings).fit(texts)
        assert by_cells.embedded == 0
        np.testing.assert_array_equal(by_cells.retrieve(SEEDS, 9).ids, first.retrieve(SEEDS, 9).ids)
        assert Watched(encoder, **{**settings, "max_length": 9}).fit(texts).embedded == 120
        assert len(list(tmp_path.iterdir())) == 2

    def test_another_corpus_does_not_touch_what_is_kept(self, encoder: TextModel, tmp_path: Path) -> None:
        kept = DenseRetriever(encoder, cache_dir=tmp_path).fit(["a surgeon", "a ship"])
        with pytest.raises(ValueError, match="another corpus, which differs at documents 0 to 1"):
            DenseRetriever(encoder, cache_dir=tmp_path).fit(["a surgeon", "a boat"])
        assert kept.retrieve(["a nurse"], n=1).texts == ["a surgeon"]

    def test_an_edited_encoder_is_not_kept(self, minilm_path: Path, tmp_path: Path) -> None:
        edited = load_model(minilm_path)
        edited.module.register_forward_hook(lambda *_: None)
        with pytest.raises(ValueError, match="forward hooks"):
            DenseRetriever(edited, cache_dir=tmp_path).fit(["a surgeon"])
        DenseRetriever(edited).fit(["a surgeon"])
        assert not list(tmp_path.iterdir())

    def test_the_temporary_index_goes_with_the_retriever(self, encoder: TextModel, tmp_path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            retriever = DenseRetriever(encoder, directory=tmp_path).fit(["a surgeon"]).fit(["a nurse"])
            assert len(list(tmp_path.iterdir())) == 1
            assert retriever.retrieve(["nurse"], n=1).texts == ["a nurse"]
            del retriever
            gc.collect()
            assert not list(tmp_path.iterdir())

    def test_a_failing_corpus_leaves_nothing_and_keeps_the_old_index(
        self, encoder: TextModel, tmp_path: Path
    ) -> None:
        (tmp_path / "work").mkdir()
        (tmp_path / "bad.jsonl").write_text('{"text": "fine"}\n{"text": 3}\n')
        retriever = DenseRetriever(encoder, directory=tmp_path / "work", shard_size=1).fit(["a surgeon"])
        with pytest.raises(TypeError, match="row 1"):
            retriever.fit(tmp_path / "bad.jsonl")
        assert len(list((tmp_path / "work").iterdir())) == 1
        assert retriever.retrieve(["surgeon"], n=1).texts == ["a surgeon"]

    def test_an_index_that_is_gone_is_named(self, encoder: TextModel, tmp_path: Path) -> None:
        DenseRetriever(encoder).fit(["a surgeon"]).save(tmp_path / "index")
        loaded = DenseRetriever.load(tmp_path / "index", corpus=["a surgeon"], encoder=encoder)
        (tmp_path / "index" / "index.faiss").unlink()
        with pytest.raises(DamagedFileError, match=r"index\.faiss is missing"):
            loaded.retrieve(["a nurse"], n=1)


class TestBadInput:
    def test_unfitted(self) -> None:
        assert isinstance(DenseRetriever(), Retriever)
        with pytest.raises(NotFittedError, match="fit"):
            DenseRetriever().retrieve(["a"], n=1)
        with pytest.raises(NotFittedError):
            DenseRetriever().save("nowhere")

    def test_unknown_index(self, encoder: TextModel) -> None:
        with pytest.raises(ValueError, match="one of exact, ivf, ivfpq, hnsw"):
            DenseRetriever(encoder, index="flat").fit(["a"])  # type: ignore[arg-type]

    def test_more_queries_than_seeds(self, encoder: TextModel) -> None:
        with pytest.raises(ValueError, match=r"n_queries must lie in 1 … 1"):
            DenseRetriever(encoder, n_queries=2).fit(["a ship"]).retrieve(["a boat"], n=1)

    @pytest.mark.filterwarnings("ignore:.* are empty:UserWarning")
    def test_fewer_documents_than_asked(self, encoder: TextModel) -> None:
        retriever = DenseRetriever(encoder).fit(["a ship", "", "a boat"])
        with pytest.warns(UserWarning, match="5 documents were asked for, 3 found"):
            assert len(retriever.retrieve(["a ship"], n=5)) == 3

    def test_too_few_documents_to_train_on(self, encoder: TextModel) -> None:
        with pytest.raises(ValueError, match="at least 39 documents, the corpus has 2"):
            DenseRetriever(encoder, index="ivf").fit(["a ship", "a boat"])


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Clustered unit vectors, as embeddings of real text are."""
    generator = np.random.default_rng(0)
    centres = generator.normal(size=(60, 16))
    return unit_rows(centres[generator.integers(60, size=11_000)] + 0.3 * generator.normal(size=(11_000, 16)))


class TestApproximateIndexes:
    @pytest.mark.parametrize(
        ("kind", "recall"), [("exact", 1.0), ("ivf", 0.9), ("hnsw", 0.9), ("ivfpq", 0.5)]
    )
    def test_recall(self, kind: str, recall: float, vectors: np.ndarray) -> None:
        index = new_index(kind, lambda n: vectors[:n], 16)
        index.add(vectors)
        hits = []
        for query in vectors[:50]:
            ids, _ = search(index, query[None], n=100)
            assert len(ids) == 100
            hits.append(len(set(ids) & set(np.argsort(-(vectors @ query))[:100])) / 100)
        assert np.mean(hits) >= recall

    @pytest.mark.parametrize("kind", ["ivf", "hnsw"])
    def test_asking_for_most_of_the_corpus_finds_as_much(self, kind: str, vectors: np.ndarray) -> None:
        index = new_index(kind, lambda n: vectors[:2_000], 16)
        index.add(vectors[:2_000])
        assert len(search(index, vectors[:1], n=1_900)[0]) == 1_900

    def test_several_queries_give_the_largest_product_and_each_id_once(self, vectors: np.ndarray) -> None:
        index = new_index("exact", lambda n: vectors[:n], 16)
        index.add(vectors[:500])
        ids, scores = search(index, vectors[:3], n=500)
        expected = (vectors[:500] @ vectors[:3].T).max(axis=1)
        assert sorted(ids) == list(range(500))
        np.testing.assert_allclose(scores, expected[ids], atol=1e-6)

    def test_few_probes_are_obeyed(self, vectors: np.ndarray) -> None:
        index = new_index("ivf", lambda n: vectors[:n], 16)
        index.add(vectors)
        one, _ = search(index, vectors[:1], n=5_000, n_probe=1)
        assert len(one) < 1_000 < len(search(index, vectors[:1], n=5_000)[0])

    def test_a_corpus_in_an_ivf_index(self, encoder: TextModel, leads: pd.DataFrame) -> None:
        kwargs = {"max_length": 8}
        texts = leads["text"][:120]
        exact = DenseRetriever(encoder, **kwargs).fit(texts).retrieve(SEEDS, n=10)
        approximate = DenseRetriever(encoder, index="ivf", n_probe=1_000, **kwargs).fit(texts)
        np.testing.assert_array_equal(approximate.retrieve(SEEDS, n=10).ids, exact.ids)
