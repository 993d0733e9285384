"""How fast SAEs train, against the dense loop and against whichever peers are installed.

    python benchmarks/train_throughput.py --json throughput.json
    python benchmarks/train_throughput.py --sizes small --only ours dense

Peers: sae-lens, dictionary-learning, eai-sparsify, overcomplete; nothing is installed here (`make peers` makes an
environment with most of them). Every contestant lives in a process of its own, and they step in turns, so that a busy machine
slows all of them. The rate is that of the fastest turn, for whatever else runs can only slow one down; rates of two runs
cannot be compared, ratios within one can. Memory is the process's peak, and what of it came after the imports.
FVU is measured on a held-out batch after the same number of steps on the same batches.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import multiprocessing
import resource
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from throughput_contestants import CONTESTANTS, PEERS, Size
from torch import Tensor

SIZES = {
    "small": Size(d_in=384, d_sae=6144, k=32, batch=4096, steps=16),
    "large": Size(d_in=512, d_sae=16384, k=32, batch=4096, steps=8),
}
STEPS_A_TURN = 4


def batch(size: Size, number: int) -> Tensor:
    """Sparse sums of hidden directions: selection and losses behave on them as on a model's activations."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.nn.functional.normalize(torch.randn(size.d_sae // 2, size.d_in, generator=generator))
    generator.manual_seed(1 + number)
    chosen = torch.randint(len(hidden), (size.batch, 8), generator=generator)
    lengths = torch.rand(size.batch, 8, generator=generator) + 0.5
    sums = torch.nn.functional.embedding_bag(chosen, hidden, mode="sum", per_sample_weights=lengths)
    return sums * 6 + torch.randn(size.batch, size.d_in, generator=generator) * 0.3


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def contest(name: str, size: Size, threads: int, line: Connection) -> None:
    """A contestant's process: sets up, then steps when told to."""
    torch.set_num_threads(threads)
    try:
        contestant = CONTESTANTS[name](size)
        imported_mb = peak_mb()
        contestant.step(batch(size, 0))
    except ImportError as error:
        line.send({"missing": str(error).splitlines()[0]})
        return
    except Exception:  # another version of the peer: the table says so and goes on
        line.send({"missing": traceback.format_exc(limit=-1).splitlines()[-1]})
        return
    line.send({"imported_mb": imported_mb})
    number = 1
    while (n := line.recv()) is not None:
        seconds = []
        for _ in range(n):
            x = batch(size, number)
            start = time.perf_counter()
            contestant.step(x)
            seconds.append(time.perf_counter() - start)
            number += 1
        line.send(seconds)
    peak = peak_mb()
    x = batch(size, -1)
    with torch.no_grad():
        residual = x - contestant.reconstruct(x)
    fvu = float(residual.square().sum() / (x - x.mean(0)).square().sum())
    line.send({"peak_mb": peak, "fvu": fvu})


def compare(size: Size, names: list[str], threads: int) -> list[dict[str, Any]]:
    """One row a contestant."""
    spawn = multiprocessing.get_context("spawn")
    lines: dict[str, Connection] = {}
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        here, there = spawn.Pipe()
        spawn.Process(target=contest, args=(name, size, threads, there), daemon=True).start()
        answer = here.recv()
        rows[name] = {"contestant": name, "version": _version(name), **answer}
        if "missing" in answer:
            print(f"{name}: left out ({answer['missing']})")
        else:
            lines[name] = here
    seconds: dict[str, list[float]] = {name: [] for name in lines}
    for _ in range(size.steps // STEPS_A_TURN):
        for name, line in lines.items():
            line.send(STEPS_A_TURN)
            seconds[name] += line.recv()
    for name, line in lines.items():
        line.send(None)
        rows[name].update(line.recv())
        rows[name]["per_second"] = round(size.batch / min(seconds[name]))
    return [rows[name] for name in lines]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name if name in PEERS else "ssae-debias")
    except importlib.metadata.PackageNotFoundError:
        return None


def show(rows: list[dict[str, Any]]) -> None:
    reference = {row["contestant"]: row["per_second"] for row in rows}
    fastest = max((reference[name] for name in PEERS if name in reference), default=None)
    columns = (
        f"{'contestant':<22}{'version':>9}{'/s':>9}{'x dense':>9}{'x fastest peer':>16}{'x sae-lens':>12}"
    )
    print(f"{columns}{'FVU':>8}{'peak MB':>9}{'of imports':>12}")
    for row in rows:

        def ratio(other: float | None, row: dict[str, Any] = row) -> str:
            return f"{row['per_second'] / other:.2f}" if other else "-"

        print(
            f"{row['contestant']:<22}{row['version'] or '-':>9}{row['per_second']:>9,}"
            f"{ratio(reference.get('dense')):>9}{ratio(fastest):>16}{ratio(reference.get('sae-lens')):>12}"
            f"{row['fvu']:>8.4f}{row['peak_mb']:>9.0f}{row['imported_mb']:>12.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=list(SIZES))
    parser.add_argument("--only", nargs="+", choices=tuple(CONTESTANTS), default=list(CONTESTANTS))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path, help="also write the rows here")
    options = parser.parse_args()
    found = {}
    for name in options.sizes:
        size = SIZES[name]
        print(
            f"\n{name}: d_in {size.d_in}, d_sae {size.d_sae}, k {size.k}, batch {size.batch}, {options.threads} threads, "
            f"{size.steps} steps",
            flush=True,
        )
        found[name] = compare(size, options.only, options.threads)
        show(found[name])
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
