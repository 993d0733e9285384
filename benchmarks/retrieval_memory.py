"""Peak memory of retrieval over a corpus, then over the same corpus three and ten times.

Every line is a process of its own, whose peak is read from the operating system at its end; the first lines are
the processes that only import what the others do. Flat means that nothing grows with the corpus: texts, vectors
and index stay on disk, and are read a batch or a shard at a time.

BM25 and MiniLM (`dense`) read the texts of `source`. The other lines index made-up vectors, as many as
`--vectors`, of a function of each text in place of a model, so that the index is measured, and not PyTorch: exact, and
with product quantisation, whose training takes 65,536 vectors however long the corpus.

    python benchmarks/retrieval_memory.py ../shared/data/wikipedia_leads.parquet
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SEEDS = ["She is a nurse at the hospital.", "He worked as a surgeon."]
REPEATS = (1, 3, 10)
RETRIEVERS = ("bm25", "dense", "exact", "ivfpq")
D = 384


class Numbered:
    """A corpus of numbered documents, none of which is held."""

    def __init__(self, n: int) -> None:
        self.n = n

    def batches(self, size: int) -> Iterator[list[str]]:
        """As `ssae_debias.retrieval.Corpus` has it."""
        for start in range(0, self.n, size):
            yield self.fetch(range(start, min(start + size, self.n)))

    def fetch(self, ids: Sequence[int]) -> list[str]:
        """As `ssae_debias.retrieval.Corpus` has it."""
        return [f"document {i}" for i in ids]


def made_up_vectors():
    """An embedder that costs nothing: a thousand clusters, and around them noise drawn from the text's digest."""
    import numpy as np

    from ssae_debias.retrieval.indexed import digests_of
    from ssae_debias.retrieval.vector_index import unit_rows

    generator = np.random.default_rng(0)
    centres = generator.normal(size=(1_000, D)).astype(np.float32)
    noise = generator.normal(size=65_536 + D).astype(np.float32)

    def embed(texts: list[str]) -> np.ndarray:
        digests = digests_of(texts)
        places = (digests >> np.uint64(48)).astype(np.int64)
        return unit_rows(centres[digests % np.uint64(1_000)] + noise[places[:, None] + np.arange(D)])

    return embed


def write_repeated(source: Path, target: Path, documents: int | None, times: int) -> None:
    import pyarrow.parquet as parquet

    texts = parquet.read_table(source, columns=["text"]).slice(0, documents)
    with parquet.ParquetWriter(target, texts.schema) as writer:
        for _ in range(times):
            for start in range(0, len(texts), 2_000):
                writer.write_table(texts.slice(start, 2_000))


def retrieve(retriever: str, corpus: Path | int, folder: Path) -> tuple[int, float]:
    """Fit, retrieve and save; returns how many documents and MiB of index there are."""
    from ssae_debias.retrieval import BM25Retriever, DenseRetriever

    if retriever in ("bm25", "dense"):
        if retriever == "bm25":
            chosen = BM25Retriever(shard_size=4_000, directory=folder)
        else:
            chosen = DenseRetriever("demo", max_length=8, shard_size=2_048, directory=folder)
        chosen.fit(corpus).retrieve(SEEDS, n=100)
        documents = chosen.n_documents_
        chosen.save(folder / "saved")
    else:
        from ssae_debias.retrieval.embedding import embed_corpus
        from ssae_debias.retrieval.indexed import IndexedCorpus
        from ssae_debias.retrieval.sharded_index import ShardedIndex

        embed, indexed = made_up_vectors(), IndexedCorpus(Numbered(corpus))
        vectors = embed_corpus(folder / "vectors", indexed, embed, D, shard_size=32_768)
        index = ShardedIndex.build(vectors, retriever, seed=0)
        ids, _ = index.search(embed(SEEDS), n=1_000)
        indexed.fetch(ids)
        documents = index.ntotal
        (folder / "saved").mkdir()
        index.save(folder / "saved")
    return documents, sum(
        file.stat().st_size for file in (folder / "saved").rglob("*") if file.is_file()
    ) / 2**20


def measure(retriever: str, times: int, corpus: Path | int) -> None:
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        # 0×: what is needed before the first document is read
        documents, index = retrieve(retriever, corpus, Path(folder)) if times else idle(retriever)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = time.perf_counter() - begun
    print(f"{retriever:9} {times:>5}× {documents:>9,} {index:>9.1f} {peak:>9.1f} {seconds:>8.1f}", flush=True)


def idle(retriever: str) -> tuple[int, float]:
    import bm25s  # noqa: F401
    import faiss  # noqa: F401

    import ssae_debias.retrieval  # noqa: F401

    if retriever == "dense":
        from ssae_debias.activations import load_model

        load_model("demo")
    return 0, 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a parquet file with a text column")
    parser.add_argument("--dense-documents", type=int, default=2_048, help="documents for MiniLM at 1×")
    parser.add_argument("--vectors", type=int, default=40_000, help="made-up vectors at 1×")
    parser.add_argument("--retrievers", nargs="+", choices=RETRIEVERS, default=RETRIEVERS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        retriever, times, corpus = arguments.measure
        measure(retriever, int(times), int(corpus) if corpus.isdigit() else Path(corpus))
        return
    print("retriever corpus documents index MiB  peak MiB  seconds", flush=True)
    for retriever in arguments.retrievers:
        for times in (0, *REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                corpus: Path | int = times * arguments.vectors
                if retriever in ("bm25", "dense"):
                    corpus = Path(folder) / "corpus.parquet"
                    documents = None if retriever == "bm25" else arguments.dense_documents
                    write_repeated(arguments.source, corpus, documents, times)
                command = [
                    sys.executable,
                    __file__,
                    str(arguments.source),
                    "--measure",
                    retriever,
                    str(times),
                ]
                subprocess.run([*command, str(corpus)], check=True)


if __name__ == "__main__":
    main()
