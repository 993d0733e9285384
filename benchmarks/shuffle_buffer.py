"""How many vectors a second the shuffle buffer gives out, beside SAELens' mixing buffer where that is installed.

    python benchmarks/shuffle_buffer.py

400,000 slots of 384 numbers, batches of 4,096, from chunks in memory: reading is not measured. The buffers take turns;
the rate is
that of each one's fastest turn, longer than one filling, after it is full.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ssae_debias.activations.shuffling import shuffled_batches

SLOTS, WIDTH, BATCH, CHUNK = 400_000, 384, 4096, 50_000


def stream(dtype: torch.dtype) -> Iterator[Tensor]:
    """Chunks without end."""
    chunk = torch.randn(CHUNK, WIDTH, generator=torch.Generator().manual_seed(0)).to(dtype)
    return itertools.repeat(chunk)


def buffers() -> dict[str, Iterator[Tensor]]:
    """Every buffer there is, by name."""
    found = {
        f"ssae-debias, {name}": shuffled_batches(stream(dtype), BATCH, buffer_rows=SLOTS, random_state=0)
        for name, dtype in (("float32", torch.float32), ("float16", torch.float16))
    }
    try:
        from sae_lens.training.mixing_buffer import mixing_buffer
    except ImportError as error:
        print(f"sae-lens: left out ({str(error).splitlines()[0]})")
    else:
        found["sae-lens, float32"] = mixing_buffer(SLOTS, BATCH, stream(torch.float32))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batches", type=int, default=128, help="batches a turn: more than a buffer full")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rates: dict[str, float] = {}
    running = buffers()
    for buffer in running.values():
        next(buffer)
    for _ in range(options.turns):
        for name, buffer in running.items():
            start, rows = time.perf_counter(), 0
            for batch in itertools.islice(buffer, options.batches):
                rows += len(batch)
            rates[name] = max(rates.get(name, 0.0), rows / (time.perf_counter() - start))
    for name, rate in rates.items():
        print(f"{name:<24}{rate:>12,.0f} vectors/s")
    if options.json:
        options.json.write_text(json.dumps(rates, indent=2) + "\n")


if __name__ == "__main__":
    main()
