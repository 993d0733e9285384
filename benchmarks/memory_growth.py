"""Peak memory of training from an on-disk store, over 1×, 3× and 10× the corpus.

Random activations are written through the store's own writer; then, in a process of its own for each length, an SAE
is trained on all of them once, streamed from the disk. Flat means that the corpus may be as long as the disk is
large: what the process holds is the shuffle buffer (131,072 rows, 201 MB at d = 384 in float32), the shard that it
is reading, and the SAE. The peak is the resident set at its largest (VmHWM: what is mapped of the shards counts);
"before" is the same once everything is imported.

    python benchmarks/memory_growth.py --json memory.json          # 10× is 2.0 GB on disk, removed afterwards
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TIMES = (1, 3, 10)
SITE = "resid.0"


def write(home: Path, n_tokens: int, d_in: int, shard_tokens: int) -> None:
    """A store of standard normal activations; each text is one shard's tokens."""
    import torch

    from ssae_debias.activations.building import KIND, TOKEN_FACTS, add_shard

    texts = -(-n_tokens // shard_tokens)
    request = {"sites": [SITE], "dtype": "float32", "n_texts": texts, "shard_tokens": shard_tokens}
    manifest: dict[str, Any] = {
        "kind": KIND,
        "request": request,
        "widths": {SITE: d_in},
        "complete": False,
        "shards": [],
        "files": {},
    }
    generator = torch.Generator().manual_seed(0)
    for text in range(texts):
        if text == texts - 1:
            manifest["complete"] = True
        rows = min(shard_tokens, n_tokens - text * shard_tokens)
        tensors = {fact: torch.full((rows,), text) for fact in TOKEN_FACTS}
        tensors[SITE] = torch.randn(rows, d_in, generator=generator)
        add_shard(home, manifest, range(text, text + 1), tensors)


def train(home: Path, d_sae: int, batch_size: int) -> None:
    """Train on a store once, and print peak memory before and after."""
    from ssae_debias.activations import ActivationStore
    from ssae_debias.sae import SAEConfig, train_sae

    before = peak_mib()
    source = ActivationStore.open(home).at(SITE)
    start = time.perf_counter()
    sae = train_sae(source, SAEConfig(d_sae=d_sae, k=8, batch_size=batch_size))
    seconds = time.perf_counter() - start
    assert sae.history_[-1]["tokens"] == source.n_tokens
    print(json.dumps({"before_mib": before, "peak_mib": peak_mib(), "seconds": round(seconds, 1)}))


def peak_mib() -> float:
    """The largest resident set of this process so far.

    Not `ru_maxrss` on Linux: a new process starts with its parent's there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    unit = 2**20 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def child(*arguments: object) -> str:
    command = [sys.executable, "-W", "ignore", __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=131_072, help="tokens at 1×: no less than the buffer")
    parser.add_argument("--d-in", type=int, default=384)
    parser.add_argument("--d-sae", type=int, default=128, help="small: memory is measured, not learning")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--shard-tokens", type=int, default=65_536)
    parser.add_argument("--folder", type=Path, help="where to write (default: the system's temporary folder)")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--train", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write(Path(args.write[0]), int(args.write[1]), args.d_in, args.shard_tokens)
        return
    if args.train:
        train(Path(args.train), args.d_sae, args.batch)
        return
    print(f"d_in={args.d_in} d_sae={args.d_sae} batch={args.batch} shard_tokens={args.shard_tokens}")
    print(f"{'corpus':>6}{'tokens':>12}{'on disk MiB':>13}{'before MiB':>12}{'peak MiB':>10}{'of 1×':>7}")
    rows: list[dict[str, Any]] = []
    for times in TIMES:
        n_tokens = times * args.tokens
        with tempfile.TemporaryDirectory(dir=args.folder) as home:
            settings = ["--d-in", args.d_in, "--shard-tokens", args.shard_tokens]
            child("--write", home, n_tokens, *settings)
            measured = json.loads(child("--train", home, "--d-sae", args.d_sae, "--batch", args.batch))
            size = sum(file.stat().st_size for file in Path(home).iterdir()) / 2**20
        row = {"times": times, "tokens": n_tokens, "disk_mib": round(size, 1), **measured}
        rows.append(
            {**row, "ratio": round(row["peak_mib"] / (rows[0]["peak_mib"] if rows else row["peak_mib"]), 3)}
        )
        print(
            f"{times:>5}×{n_tokens:>12,}{size:>13,.1f}{row['before_mib']:>12,.1f}{row['peak_mib']:>10,.1f}"
            f"{rows[-1]['ratio']:>7.2f}",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
