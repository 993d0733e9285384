"""Peak memory of retrieval over a corpus, then over the same corpus four and eight times.

BM25 and dense retrieval run in a process each, whose peak so far is read from the operating system after every
corpus: what a longer corpus adds to the peak is what it costs. Flat means that nothing grows with the corpus but the
index: on disk for BM25, in memory for the exact dense index. (FAISS copies an index that outgrows its place, so that
it takes up to three times its size while it grows; and PyTorch's working memory settles only after some batches, so
that for dense retrieval the step from 4× to 8× is the one to read.)

    python benchmarks/retrieval_memory.py ../shared/data/wikipedia_leads.parquet
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

SEEDS = ["She is a nurse at the hospital.", "He worked as a surgeon."]
REPEATS = (1, 4, 8)


def write_repeated(source: Path, target: Path, documents: int | None, times: int) -> None:
    import pyarrow.parquet as parquet

    texts = parquet.read_table(source, columns=["text"]).slice(0, documents)
    with parquet.ParquetWriter(target, texts.schema) as writer:
        for _ in range(times):
            for start in range(0, len(texts), 2_000):
                writer.write_table(texts.slice(start, 2_000))


def measure(retriever: str, corpora: list[Path]) -> None:
    from ssae_debias.retrieval import BM25Retriever, DenseRetriever

    if retriever == "bm25":
        fresh = partial(BM25Retriever, shard_size=4_000)
    else:
        from ssae_debias.activations import load_model

        fresh = partial(DenseRetriever, load_model("demo"), max_length=8)
    for times, corpus in zip(REPEATS, corpora, strict=True):
        chosen = fresh()
        chosen.fit(corpus).retrieve(SEEDS, n=100)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with tempfile.TemporaryDirectory() as folder:
            chosen.save(Path(folder) / "index")
            index = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file()) / 2**20
        print(f"{retriever:9} {times:>5}× {chosen.n_documents_:>9,} {index:>9.1f} {peak:>9.1f}", flush=True)
        # its index must not stand beside the next one
        del chosen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="a parquet file with a text column")
    parser.add_argument("--dense-documents", type=int, default=2_048, help="documents to embed at 1×")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure[0], [Path(path) for path in arguments.measure[1:]])
        return
    print("retriever corpus documents index MiB  peak MiB", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for retriever, documents in (("bm25", None), ("dense", arguments.dense_documents)):
            corpora = [Path(folder) / f"{retriever}-{times}.parquet" for times in REPEATS]
            for corpus, times in zip(corpora, REPEATS, strict=True):
                write_repeated(arguments.source, corpus, documents, times)
            command = [
                sys.executable,
                __file__,
                str(arguments.source),
                "--measure",
                retriever,
                *map(str, corpora),
            ]
            subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
