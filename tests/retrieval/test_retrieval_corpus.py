from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssae_debias.retrieval import Corpus, FileCorpus, TextCorpus, as_corpus
from ssae_debias.retrieval.indexed import IndexedCorpus, digests_of

TEXTS = ["a surgeon", 'said "hello", twice', "zwölf Ärztinnen", "NA", "null", "two words"]


def write(folder: Path, suffix: str, texts: list[str]) -> Path:
    path = folder / f"corpus{suffix}"
    frame = pd.DataFrame({"text": texts, "title": "t"})
    if suffix == ".parquet":
        frame.to_parquet(path, row_group_size=2)
    elif suffix == ".csv":
        frame.to_csv(path, index=False)
    elif suffix == ".txt":
        path.write_text("".join(f"{t}\n" for t in texts), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps({"text": t, "n": 1}) + "\n" for t in texts), encoding="utf-8")
    return path


def read(corpus: Corpus, size: int = 4) -> list[str]:
    return [text for batch in corpus.batches(size) for text in batch]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl", ".ndjson", ".txt"])
class TestFileFormats:
    def test_documents_come_back_as_written(self, suffix: str, tmp_path: Path) -> None:
        corpus = FileCorpus(write(tmp_path, suffix, TEXTS))
        assert read(corpus) == TEXTS
        assert read(corpus) == TEXTS, "a corpus can be read again"

    def test_fetch_keeps_the_order_asked_for(self, suffix: str, tmp_path: Path) -> None:
        corpus = FileCorpus(write(tmp_path, suffix, TEXTS))
        assert corpus.fetch(np.array([4, 0, 4])) == [TEXTS[4], TEXTS[0], TEXTS[4]]
        assert corpus.fetch([]) == []

    def test_fetch_beyond_the_end(self, suffix: str, tmp_path: Path) -> None:
        with pytest.raises(IndexError, match="document 6"):
            FileCorpus(write(tmp_path, suffix, TEXTS)).fetch([0, 6])


def test_csv_texts_may_span_lines_and_exceed_the_default_field_limit(tmp_path: Path) -> None:
    texts = ["first line\nsecond line", "x" * 200_000]
    assert read(FileCorpus(write(tmp_path, ".csv", texts))) == texts


def test_a_folder_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("third\n")
    (tmp_path / "a.txt").write_text("first\nsecond\n")
    (tmp_path / "notes.md").write_text("not a document")
    corpus = FileCorpus(tmp_path)
    assert list(corpus.batches(2)) == [["first", "second"], ["third"]]
    assert corpus.fetch([2]) == ["third"]


@given(
    texts=st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=1, max_size=30),
    size=st.integers(1, 40),
)
def test_batches_are_full_and_lose_nothing(texts: list[str], size: int) -> None:
    batches = list(TextCorpus(texts).batches(size))
    assert [text for batch in batches for text in batch] == texts
    assert all(len(batch) == size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= size


class TestBadInput:
    def test_unknown_column_names_the_nearest(self, tmp_path: Path) -> None:
        path = write(tmp_path, ".parquet", TEXTS)
        with pytest.raises(ValueError, match=r"no column 'texts'; it has text, title\. Did you mean 'text'"):
            read(FileCorpus(path, text="texts"))

    @pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
    def test_missing_text_is_named_by_row(self, suffix: str, tmp_path: Path) -> None:
        path = write(tmp_path, suffix, ["a", "b", None])  # type: ignore[list-item]
        with pytest.raises(TypeError, match=r"row 2: 'text' is None"):
            read(FileCorpus(path))

    def test_broken_json_is_named_by_line(self, tmp_path: Path) -> None:
        path = tmp_path / "corpus.jsonl"
        path.write_text('{"text": "a"}\n{"text": ')
        with pytest.raises(ValueError, match="line 2 is not valid JSON"):
            read(FileCorpus(path))

    def test_json_line_that_is_no_object(self, tmp_path: Path) -> None:
        path = tmp_path / "corpus.jsonl"
        path.write_text("[1]\n")
        with pytest.raises(ValueError, match="line 1 is a list"):
            read(FileCorpus(path))

    def test_a_bare_text_is_no_corpus(self) -> None:
        with pytest.raises(FileNotFoundError, match="a single text goes into a list"):
            as_corpus("She is a nurse.")

    def test_an_iterator_is_no_corpus(self) -> None:
        with pytest.raises(TypeError, match="only once"):
            as_corpus(iter(["a", "b"]))  # type: ignore[arg-type]

    def test_none_among_texts(self) -> None:
        with pytest.raises(TypeError):
            as_corpus(["a", None])  # type: ignore[list-item]

    def test_unknown_suffix(self, tmp_path: Path) -> None:
        (tmp_path / "corpus.pkl").write_bytes(b"")
        with pytest.raises(ValueError, match=r"unknown suffix '\.pkl'"):
            FileCorpus(tmp_path / "corpus.pkl")

    def test_folders_without_or_with_several_kinds(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="no file of a known kind"):
            FileCorpus(tmp_path)
        write(tmp_path, ".txt", TEXTS)
        write(tmp_path, ".csv", TEXTS)
        with pytest.raises(ValueError, match="several kinds"):
            FileCorpus(tmp_path)

    @pytest.mark.parametrize("ids", [[3], [-1]])
    def test_ids_outside_texts(self, ids: list[int]) -> None:
        with pytest.raises(IndexError, match="from 0 to 2"):
            TextCorpus(["a", "b", "c"]).fetch(ids)

    def test_batch_size(self) -> None:
        with pytest.raises(ValueError, match="size=0"):
            list(TextCorpus(["a"]).batches(0))


def test_as_corpus_takes_what_people_have(tmp_path: Path) -> None:
    own = TextCorpus(["a"])
    assert as_corpus(own) is own
    for texts in (["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"], index=[7, 8])):
        assert read(as_corpus(texts)) == ["a", "b"]
    assert read(as_corpus(str(write(tmp_path, ".csv", TEXTS)))) == TEXTS


def test_real_parquet_is_the_frame_that_pandas_reads(shared: Path) -> None:
    path = shared / "data" / "wikipedia_leads.parquet"
    expected = pd.read_parquet(path)["text"]
    corpus = FileCorpus(path)
    assert read(corpus, 1000) == expected.to_list()
    ids = np.array([16_036, 5, 9_000])
    assert corpus.fetch(ids) == expected.iloc[ids].to_list()


def test_reading_holds_a_batch_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"{i} {'word ' * 200}\n" for i in range(8_000)))
    tracemalloc.start()
    n = sum(len(batch) for batch in FileCorpus(path).batches(100))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n == 8_000
    assert peak < path.stat().st_size / 10


@pytest.mark.parametrize("rows_a_group", [500, 20_000])
def test_reading_parquet_does_not_pile_up_what_was_read(rows_a_group: int, tmp_path: Path) -> None:
    path = tmp_path / "corpus.parquet"
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"text": [generator.bytes(400).hex() for _ in range(20_000)]})
    frame.to_parquet(path, row_group_size=rows_a_group)
    before, peak = pa.total_allocated_bytes(), 0
    for _ in FileCorpus(path).batches(100):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < path.stat().st_size / 3


class TestIndexedCorpus:
    def test_a_changed_corpus_is_noticed(self, tmp_path: Path) -> None:
        path = write(tmp_path, ".txt", ["one", "two", "three"])
        corpus = IndexedCorpus(path)
        read(corpus)
        path.write_text("one\ntwo!\nthree\n")
        assert corpus.fetch([2, 0]) == ["three", "one"]
        with pytest.raises(ValueError, match=r"1 of the 2 documents asked for differ, first id 1"):
            corpus.fetch([0, 1])
        path.write_text("one\n")
        with pytest.raises(ValueError, match="has changed since it was indexed"):
            corpus.fetch([2])

    def test_save_and_load(self, tmp_path: Path) -> None:
        corpus = IndexedCorpus(write(tmp_path, ".csv", TEXTS))
        read(corpus)
        corpus.save(tmp_path)
        again = IndexedCorpus.load(tmp_path)
        assert len(again) == len(TEXTS)
        assert again.fetch([3]) == [TEXTS[3]]

    def test_texts_in_memory_must_be_given_again(self, tmp_path: Path) -> None:
        corpus = IndexedCorpus(["one", "two"])
        read(corpus)
        corpus.save(tmp_path)
        with pytest.raises(ValueError, match="give them as corpus="):
            IndexedCorpus.load(tmp_path)
        assert IndexedCorpus.load(tmp_path, ["one", "two"]).fetch([1]) == ["two"]
        with pytest.raises(ValueError, match="differ"):
            IndexedCorpus.load(tmp_path, ["one", "three"]).fetch([1])

    def test_no_documents(self, tmp_path: Path) -> None:
        (tmp_path / "empty.txt").write_text("")
        with pytest.raises(ValueError, match="no documents"):
            read(IndexedCorpus(tmp_path / "empty.txt"))

    @given(st.lists(st.text(max_size=5), unique=True, max_size=50))
    def test_digests_tell_texts_apart(self, texts: list[str]) -> None:
        assert len(set(digests_of(texts).tolist())) == len(texts)
