"""An index in shards: what one index finds, found without ever holding more than a shard."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_embedder import D, documents, embed

from ssae_debias.files import MANIFEST, DamagedFileError
from ssae_debias.retrieval.corpus import TextCorpus
from ssae_debias.retrieval.embedding import embed_corpus
from ssae_debias.retrieval.indexed import IndexedCorpus
from ssae_debias.retrieval.shard_folder import ShardFolder
from ssae_debias.retrieval.sharded_index import ShardedIndex
from ssae_debias.retrieval.vector_index import INDEXES, chosen_index, open_index, search

TEXTS = documents(11_000)
# documents 3 to 9 copy each other: a corpus of real text has copies, and they tie
TEXTS[3:10] = [TEXTS[3]] * 7


def vectors_of(folder: Path, shard_size: int, texts: list[str] = TEXTS) -> ShardFolder:
    return embed_corpus(folder, IndexedCorpus(texts), embed, D, shard_size=shard_size)


def built(folder: Path, kind: str, shard_size: int, texts: list[str] = TEXTS) -> ShardedIndex:
    return ShardedIndex.build(vectors_of(folder, shard_size, texts), kind, seed=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def best(scores: np.ndarray, n: int) -> np.ndarray:
    return np.lexsort((np.arange(len(scores)), -scores))[:n]


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return embed(TEXTS)


@pytest.fixture
def one_thread() -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield
    faiss.omp_set_num_threads(threads)


class TestExact:
    def test_threads_change_the_last_digit_at_most(self, vectors: np.ndarray, tmp_path: Path) -> None:
        index, expected = built(tmp_path, "exact", 1_024), vectors @ vectors[3]
        ids, scores = index.search(vectors[3:4].copy(), 500)
        np.testing.assert_allclose(scores, np.sort(expected)[::-1][:500], rtol=1e-5)
        np.testing.assert_allclose(scores, expected[ids], rtol=1e-5)

    @pytest.mark.usefixtures("one_thread")
    @pytest.mark.parametrize("shard_size", [700, 1_024, 4_000, 11_000, 100_000])
    @pytest.mark.parametrize("n_queries", [1, 3, 40])
    def test_shards_equal_one_faiss_index_to_the_bit(
        self,
        shard_size: int,
        n_queries: int,
        vectors: np.ndarray,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # from 20 queries of this length on FAISS now multiplies matrices, and rounds otherwise; its own limit,
        # 128,000 numbers, would need thousands
        monkeypatch.setattr(faiss.cvar, "distance_compute_blas_threshold", 20 * D)
        whole = faiss.IndexFlatIP(D)
        whole.add(vectors)
        queries = vectors[3 : 3 + 7 * n_queries : 7].copy()
        # one query at a time, as it is computed without matrices
        every = np.full(len(TEXTS), -np.inf, dtype=np.float32)
        for query in queries:
            scores, ids = whole.search(query[None], len(TEXTS))
            every[ids[0]] = np.maximum(every[ids[0]], scores[0])
        index = built(tmp_path, "exact", shard_size)
        assert len(index.shards) == -(-len(TEXTS) // shard_size)
        for n in (1, 4, 500):
            ids, scores = index.search(queries, n)
            np.testing.assert_array_equal(ids, best(every, n))
            np.testing.assert_array_equal(scores, every[ids])

    @settings(max_examples=60, deadline=None)
    @given(
        values=st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=1, max_size=40),
        shard_size=st.integers(1, 45),
        n=st.integers(1, 45),
    )
    def test_ties_go_to_the_smaller_id_wherever_it_is_cut(
        self, values: list[float], shard_size: int, n: int, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("ties")
        texts = [str(value) for value in values]
        shards = embed_corpus(
            folder,
            IndexedCorpus(texts),
            lambda batch: np.float32([[float(text), 1] for text in batch]),
            2,
            shard_size=shard_size,
        )
        index = ShardedIndex.build(shards, "exact", seed=0)
        ids, scores = index.search(np.float32([[1, 0], [-1, 0.25]]), n)
        expected = np.maximum(np.array(values), 0.25 - np.array(values))
        np.testing.assert_array_equal(ids, best(expected, n))
        np.testing.assert_array_equal(scores, expected[ids])


class TestApproximate:
    @pytest.mark.parametrize("kind", ["ivf", "ivfpq"])
    def test_shards_with_one_quantiser_equal_one_index(
        self, kind: str, vectors: np.ndarray, tmp_path: Path
    ) -> None:
        cut, whole = built(tmp_path / "cut", kind, 3_000), built(tmp_path / "whole", kind, 20_000)
        assert (len(cut.shards), len(whole.shards)) == (4, 1)
        trained = [next((tmp_path / name).rglob("trained.faiss")).read_bytes() for name in ("cut", "whole")]
        assert trained[0] == trained[1], "both drew the same documents to train on"
        for n, n_probe in ((200, None), (200, 2), (3_000, None)):
            expected = whole.search(vectors[:25], n, n_probe=n_probe)
            found = cut.search(vectors[:25], n, n_probe=n_probe)
            np.testing.assert_array_equal(found[0], expected[0])
            np.testing.assert_array_equal(found[1], expected[1])

    def test_every_shard_searches_the_cells_that_one_index_would(
        self, vectors: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened: list[faiss.IndexIVF] = []

        def watched(path: Path) -> faiss.Index:
            opened.append(open_index(path))
            return opened[-1]

        cut, whole = built(tmp_path / "cut", "ivf", 3_000), built(tmp_path / "whole", "ivf", 20_000)
        monkeypatch.setattr("ssae_debias.retrieval.sharded_index.open_index", watched)
        for index in (whole, cut):
            index.search(vectors[:1], 1_000)
        assert len(opened) == 1 + 4
        # a shard by itself would search more: it has fewer vectors, and the 1,000 may all be in it
        assert {shard.nprobe for shard in opened} == {-(-2 * 1_000 * opened[0].nlist // len(TEXTS))}

    @pytest.mark.parametrize(
        ("kind", "in_10", "in_40"), [("ivf", 0.97, 0.97), ("ivfpq", 0.6, 0.95), ("hnsw", 0.97, 0.97)]
    )
    def test_recall_of_the_10_nearest(
        self, kind: str, in_10: float, in_40: float, vectors: np.ndarray, tmp_path: Path
    ) -> None:
        approximate, exact = built(tmp_path, kind, 3_000), built(tmp_path, "exact", 3_000)
        hits = {10: 0, 40: 0}
        for query in vectors[20:4_020:40]:
            nearest = set(exact.search(query[None], 10)[0])
            for n in hits:
                hits[n] += len(nearest & set(approximate.search(query[None], n)[0]))
        assert hits[10] / 1_000 > in_10
        assert hits[40] / 1_000 > in_40

    def test_ties_beyond_the_last_are_found(self, tmp_path: Path) -> None:
        index = built(tmp_path, "ivf", 20_000)
        query = embed(TEXTS[3:4])
        for n in range(1, 8):
            np.testing.assert_array_equal(index.search(query, n)[0], np.arange(3, 3 + n))
            ids, scores = search(index.shards[0].open(), query, n)
            assert set(range(3, 10)) == set(ids)
            assert len(set(scores)) == 1

    @pytest.mark.parametrize("kind", ["exact", "ivf", "ivfpq"])
    def test_the_same_request_gives_the_same_bytes(self, kind: str, tmp_path: Path) -> None:
        built(tmp_path / "a", kind, 4_000)
        built(tmp_path / "b", kind, 4_000)
        assert contents(tmp_path / "a") == contents(tmp_path / "b")

    def test_auto_is_exact_up_to_a_million(self) -> None:
        assert chosen_index("auto", 1_000_000) == "exact"
        assert chosen_index("auto", 1_000_001) == "ivfpq"

    def test_auto_is_chosen_by_the_corpus(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert built(tmp_path, "auto", 4_000).kind == "exact"
        monkeypatch.setattr("ssae_debias.retrieval.vector_index.EXACT_UP_TO", 10_000)
        index = built(tmp_path, "auto", 4_000)
        assert index.kind == "ivfpq"
        assert {type(shard.open()) for shard in index.shards} == {faiss.IndexIVFPQ}


BUILD = """
import sys
sys.path.insert(0, sys.argv[1])
import time
from pathlib import Path
import synthetic_embedder
from ssae_debias.retrieval.embedding import embed_corpus
from ssae_debias.retrieval.indexed import IndexedCorpus
from ssae_debias.retrieval.sharded_index import ShardedIndex

def slowly(texts):
    time.sleep(0.01)
    return synthetic_embedder.embed(texts)

corpus = IndexedCorpus(synthetic_embedder.documents(24_000))
print("ready", flush=True)
vectors = embed_corpus(Path(sys.argv[2]), corpus, slowly, synthetic_embedder.D, shard_size=2_000)
ShardedIndex.build(vectors, "ivfpq", seed=0)
"""


@pytest.mark.slow
def test_a_build_killed_again_and_again_ends_with_the_same_bytes(tmp_path: Path) -> None:
    def start(folder: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BUILD, str(Path(__file__).parent), str(folder)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def whole_files() -> int:
        return len(list((tmp_path / "killed").rglob("*.faiss")))

    with start(tmp_path / "whole") as process:
        pass
    assert process.returncode == 0

    generator = np.random.default_rng()
    kills = 0
    for _ in range(4):
        stood = whole_files()
        # of the 25 files some more, then anywhere within the making of the next
        until = stood + generator.integers(0, 7)
        with start(tmp_path / "killed") as process:
            while process.poll() is None and whole_files() < until:
                time.sleep(0.001)
            time.sleep(generator.uniform(0, 0.03))
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        assert whole_files() >= stood, "what was whole stayed"
    assert kills >= 2
    with start(tmp_path / "killed") as process:
        pass
    assert process.returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert len(contents(tmp_path / "whole")) == 12 + 12 + 1 + 2


class Stopped(Exception):
    pass


def stopping_after(n: int) -> Callable[[list[str]], np.ndarray]:
    seen = 0

    def embed_some(texts: list[str]) -> np.ndarray:
        nonlocal seen
        seen += len(texts)
        if seen > n:
            raise Stopped
        return embed(texts)

    return embed_some


class TestGoingOn:
    def test_only_what_is_missing_is_embedded(self, tmp_path: Path) -> None:
        corpus = IndexedCorpus(TEXTS)
        with pytest.raises(Stopped):
            embed_corpus(tmp_path, corpus, stopping_after(5_500), D, shard_size=2_500)
        # two shards of 2,500 were whole, so that 6,000 documents are left
        with pytest.raises(Stopped):
            embed_corpus(tmp_path, corpus, stopping_after(5_999), D, shard_size=2_500)
        embed_corpus(tmp_path, corpus, stopping_after(1_000), D, shard_size=2_500)
        embed_corpus(tmp_path, corpus, stopping_after(0), D, shard_size=2_500)
        assert len(corpus) == len(TEXTS), "documents that are not embedded again are known all the same"
        vectors_of(tmp_path / "reference", 2_500)
        reference = contents(tmp_path / "reference")
        assert {name: data for name, data in contents(tmp_path).items() if "/" not in name} == reference

    @pytest.mark.parametrize(
        "damage",
        [
            lambda file: file.write_bytes(file.read_bytes()[:-1]),
            lambda file: file.write_bytes(file.read_bytes()[:-1] + b"\x77"),
            Path.unlink,
        ],
    )
    @pytest.mark.parametrize("pattern", ["00001.faiss", "ivf-*/00001.faiss", "ivf-*/trained.faiss"])
    def test_a_damaged_file_is_named_and_made_again(
        self, pattern: str, damage: Callable[[Path], None], tmp_path: Path
    ) -> None:
        texts = TEXTS[:2_000]
        built(tmp_path, "ivf", 600, texts)
        before = contents(tmp_path)
        (file,) = tmp_path.glob(pattern)
        damage(file)
        with pytest.warns(UserWarning, match=rf"1 file\(s\) in .*made again: {file.name}"):
            built(tmp_path, "ivf", 600, texts)
        assert contents(tmp_path) == before

    def test_a_damaged_manifest_costs_time_and_nothing_else(self, tmp_path: Path) -> None:
        built(tmp_path, "exact", 600, TEXTS[:1_000])
        before = contents(tmp_path)
        (tmp_path / MANIFEST).write_text('{"kind": ')
        with pytest.warns(UserWarning, match="manifest.json is damaged"):
            built(tmp_path, "exact", 600, TEXTS[:1_000])
        assert contents(tmp_path) == before

    @pytest.mark.parametrize(
        ("other", "where"),
        [
            (["another", *TEXTS[1:2_000]], "documents 0 to 599"),
            ([*TEXTS[:1_999], "another"], "documents 1800 to 1999"),
            (TEXTS[:2_001], "documents 1800 to 2000"),
            (TEXTS[:1_200], "the end .the corpus has 1200 documents"),
        ],
    )
    def test_another_corpus_is_refused(self, other: list[str], where: str, tmp_path: Path) -> None:
        vectors_of(tmp_path, 600, TEXTS[:2_000])
        before = contents(tmp_path)
        with pytest.raises(
            ValueError, match=f"another corpus, which differs at {where}.*Give another folder"
        ):
            vectors_of(tmp_path, 600, other)
        assert contents(tmp_path) == before, "the index of the first one is left as it was"

    def test_another_request_is_refused(self, tmp_path: Path) -> None:
        vectors_of(tmp_path, 600, TEXTS[:2_000])
        with pytest.raises(ValueError, match="of another request"):
            vectors_of(tmp_path, 601, TEXTS[:2_000])

    def test_no_space_is_said_and_costs_only_the_shard(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_index = faiss.write_index
        written = []

        def full(index: object, writer: object) -> None:
            written.append(index)
            if len(written) == 3:
                raise OSError(errno.ENOSPC, "No space left on device")
            write_index(index, writer)

        monkeypatch.setattr(faiss, "write_index", full)
        with pytest.raises(OSError, match="no space left while writing .*00002.faiss"):
            vectors_of(tmp_path, 600, TEXTS[:2_000])
        monkeypatch.undo()
        assert sorted(contents(tmp_path)) == ["00000.faiss", "00001.faiss", MANIFEST]

    def test_faiss_writes_come_out_as_errors_of_the_system(self, tmp_path: Path) -> None:
        shards = ShardFolder(tmp_path / "shards", "example", {})
        (tmp_path / "shards").write_text("a file where a folder should be")
        with pytest.raises(FileExistsError):
            shards.write("00000.faiss", faiss.IndexFlatIP(2))


class TestFiles:
    @pytest.mark.parametrize("kind", INDEXES)
    @pytest.mark.parametrize("shard_size", [3_000, 20_000])
    def test_saved_and_opened(self, kind: str, shard_size: int, vectors: np.ndarray, tmp_path: Path) -> None:
        index = built(tmp_path / "index", kind, shard_size)
        (tmp_path / "saved").mkdir()
        lengths = index.save(tmp_path / "saved")
        again = ShardedIndex.open(tmp_path / "saved", kind, lengths)
        assert again.ntotal == sum(lengths) == len(TEXTS)
        for before, after in zip(index.search(vectors[:3], 50), again.search(vectors[:3], 50), strict=True):
            np.testing.assert_array_equal(before, after)
        files = sorted((tmp_path / "saved").iterdir())
        assert sum(faiss.read_index(str(file)).ntotal for file in files) == len(TEXTS)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (Path.unlink, " is missing"),
            (lambda file: file.write_bytes(file.read_bytes()[:-9]), r" has \d+ bytes instead of \d+"),
        ],
    )
    def test_a_file_that_changes_under_the_index_is_named(
        self, change: Callable[[Path], None], message: str, vectors: np.ndarray, tmp_path: Path
    ) -> None:
        index = built(tmp_path, "exact", 4_000)
        change(tmp_path / "00001.faiss")
        with pytest.raises(DamagedFileError, match=rf"00001\.faiss{message}"):
            index.search(vectors[:1], 3)


@pytest.mark.parametrize("shard_size", [0, -3])
def test_shard_size(shard_size: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"shard_size must be at least 1, got {shard_size}"):
        vectors_of(tmp_path, shard_size)


def test_only_a_batch_of_texts_is_asked_for_at_a_time(tmp_path: Path) -> None:
    """However large a shard is, and wherever it ends."""
    asked: list[int] = []

    class Watched(TextCorpus):
        def batches(self, size: int):  # type: ignore[no-untyped-def]
            asked.append(size)
            return super().batches(size)

    lengths: list[int] = []

    def watching(texts: list[str]) -> np.ndarray:
        lengths.append(len(texts))
        return embed(texts)

    embed_corpus(tmp_path, IndexedCorpus(Watched(TEXTS)), watching, D, shard_size=5_000)
    assert asked == [1_024]
    assert max(lengths) <= 1_024
    assert sum(lengths) == len(TEXTS)
