"""What reading activations and editing cost, relative to the model's bare forward pass.

Reading: the bare forward pass is the model cut off after the site's block, on padded batches that are made
beforehand. Against it stand `read_tokens` and `read_pooled` (they tokenise, sort, pad, run, gather and check), and
`ActivationStore.build`, which writes every token's activation to disk besides, with its sha256.

Editing: the whole model with 20 latents zeroed at each of 16 sites (embed, and attention, MLP and residual stream of
the first five blocks) against the same model without; latents of random SAEs, chosen among all.

All run in turns within each round, so that a busy machine slows all alike. "seconds" and "ratio" are of each one's
fastest round, "median" is the median over the rounds of the ratio within a round.

    python benchmarks/extraction.py --rounds 9 --json extraction.json
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ssae_debias.activations import ActivationStore, TextModel, load_model, read_pooled, read_tokens
from ssae_debias.activations.batching import PaddedBatch, batches_by_length, pad, tokenize
from ssae_debias.data import synthetic_biographies
from ssae_debias.edit import Edit, edit_latents, spliced
from ssae_debias.sae import SAEConfig, SparseAutoencoder

BATCH_TOKENS = 2048
TARGETS = {"read_tokens": 1.05, "read_pooled": 1.05, "edited forward": 1.3}


def padded(model: TextModel, texts: list[str]) -> list[PaddedBatch]:
    tokenized = tokenize(model, texts, max_length=128, include_special=True)
    batches = batches_by_length(tokenized.lengths, BATCH_TOKENS)
    return [pad(tokenized, batch, model.tokenizer.pad_token_id) for batch in batches]


def forward(model: TextModel, batches: list[PaddedBatch]) -> None:
    with torch.no_grad():
        for batch in batches:
            model.module(
                input_ids=torch.from_numpy(batch.input_ids),
                attention_mask=torch.from_numpy(batch.attention_mask),
            )


def cut_off(after: int) -> TextModel:
    """The demo model without the blocks above one."""
    model = load_model("demo")
    model.module.encoder.layer = model.module.encoder.layer[: after + 1]
    model.module.pooler = None
    return model


def edits(model: TextModel, per_site: int, d_sae: int) -> dict[str, Edit]:
    rng, chosen = np.random.default_rng(0), {}
    for number, site in enumerate(model.sites[:16]):
        sae = SparseAutoencoder(384, SAEConfig(d_sae=d_sae, k=32), random_state=number)
        chosen[site] = edit_latents(sae, rng.choice(d_sae, per_site, replace=False))
    return chosen


def measure(ways: dict[str, Callable[[], object]], rounds: int) -> list[dict[str, Any]]:
    """Seconds of each way; the first is what the others are compared with."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for round_ in range(rounds):
        # each in every place of the turn: what ran before leaves its mark on the caches
        names = list(ways)
        for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    base = seconds[next(iter(ways))]
    return [
        {
            "way": name,
            "seconds": round(min(taken), 4),
            "ratio": round(min(taken) / min(base), 3),
            "median_ratio": round(statistics.median(np.divide(taken, base).tolist()), 3),
            "target": TARGETS.get(name),
        }
        for name, taken in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--block", type=int, default=3, help="read resid of this block")
    parser.add_argument("--latents", type=int, default=20, help="edited at each site")
    parser.add_argument("--d-sae", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the rows here")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, cut, site = load_model("demo"), cut_off(args.block), f"resid.{args.block}"
    texts = list(synthetic_biographies(args.texts, random_state=0).texts)
    batches = padded(model, texts)
    homes = Path(tempfile.mkdtemp())

    def build() -> None:
        # a folder of its own each time: the store would be found, and no model run
        ActivationStore.build(tempfile.mkdtemp(dir=homes), model, texts, site, include_special=True)

    ways: dict[str, Callable[[], object]] = {
        f"bare forward to {site}": lambda: forward(cut, batches),
        "read_tokens": lambda: [None for _ in read_tokens(model, texts, site, include_special=True)],
        "read_pooled": lambda: read_pooled(model, texts, site, include_special=True),
        "ActivationStore.build": build,
    }
    changes = edits(model, args.latents, args.d_sae)

    def edited() -> None:
        with spliced(model, changes):
            forward(model, batches)

    n_tokens = int(sum(batch.attention_mask.sum() for batch in batches))
    print(f"{len(texts)} texts, {n_tokens:,} tokens, {len(batches)} batches, threads={args.threads}")
    print(f"{'':<26}{'seconds':>9}{'ratio':>8}{'median':>8}{'target':>8}")
    rows = []
    for group in (ways, {"plain forward": lambda: forward(model, batches), "edited forward": edited}):
        for row in measure(group, args.rounds):
            rows.append(row)
            target = "" if row["target"] is None else f"≤ {row['target']}"
            print(
                f"{row['way']:<26}{row['seconds']:>9.3f}{row['ratio']:>8.3f}{row['median_ratio']:>8.3f}"
                f"{target:>8}",
                flush=True,
            )
    shutil.rmtree(homes)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
