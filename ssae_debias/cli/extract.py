"""`ssae-debias extract`: texts in a file → an activation store; by several ranks under torchrun."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from ssae_debias.activations import ActivationStore, load_model
from ssae_debias.activations.model import DTYPES
from ssae_debias.ranks import Ranks
from ssae_debias.retrieval import FileCorpus

NUMBERS = {
    "max_length": "tokens at which a text is cut",
    "shard_tokens": "tokens a shard: what a rank holds in memory",
    "batch_tokens": "padded tokens a forward pass (default: what suits the device)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes; the defaults are those of `ActivationStore.build`."""
    default = {
        name: facts.default for name, facts in inspect.signature(ActivationStore.build).parameters.items()
    }
    need = parser.add_argument_group("needed")
    need.add_argument("--model", required=True, help="a model's folder, its id on the hub, or demo")
    need.add_argument("--texts", required=True, type=Path, metavar="FILE", help=".parquet, .csv, .jsonl or .txt; or a folder of such files")  # fmt: skip
    need.add_argument("--sites", required=True, nargs="+", metavar="SITE", help="where to read: embed, resid.3, mlp.2, …")  # fmt: skip
    need.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="home of the store; the same request goes on, or finds itself done")  # fmt: skip
    parser.add_argument("--column", default="text", help="of the file, that holds the texts (default: text)")
    for name, help in NUMBERS.items():
        shown = f"{help} (default: {default[name]})" if default[name] else help
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=int, default=default[name], metavar="N", help=shown)
    parser.add_argument(
        "--include-special", action="store_true", help="keep the tokenizer's special tokens too"
    )
    parser.add_argument("--dtype", default=default["dtype"], choices=DTYPES, help=f"of what is stored (default: {default['dtype']})")  # fmt: skip
    parser.add_argument("--revision", help="of a model on the hub")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="cuda: each rank its own GPU (default: cpu)")  # fmt: skip
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress bar")


def command(options: argparse.Namespace) -> int:
    """Build the store, or find it; print where it is."""
    with Ranks.from_environment(options.device) as ranks:
        corpus = FileCorpus(options.texts, text=options.column)
        texts = [text for batch in corpus.batches(4096) for text in batch]
        model = load_model(options.model, device=ranks.device, revision=options.revision)
        store = ActivationStore.build(
            options.out,
            model,
            texts,
            options.sites,
            max_length=options.max_length,
            include_special=options.include_special,
            dtype=options.dtype,
            shard_tokens=options.shard_tokens,
            batch_tokens=options.batch_tokens,
            ranks=ranks,
            verbose=0 if options.quiet else 1,
        )
        if ranks.first:
            print(
                f"{store.n_tokens} tokens of {store.n_texts} texts at {', '.join(store.sites)}: {store.directory}"
            )
    return 0
