"""What two gloo ranks do for `test_sae_ranks.py`, all in one pair of processes: starting PyTorch takes longest.

Run as a script with torchrun's environment variables and a folder; each rank leaves there what it came to.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1] / "activations"))

import numpy as np
import torch
from safetensors.torch import save_file
from tiny_text_models import WORDS, make_tiny_model

from ssae_debias.activations import ActivationStore
from ssae_debias.cli import main
from ssae_debias.ranks import ALONE, Ranks
from ssae_debias.sae import ArraySource, SAEConfig, SparseAutoencoder, tilted_weights, train_sae
from ssae_debias.sae.steps import DenseStep, SparseStep
from ssae_debias.sae.trainer import Trainer

SHARED: dict[str, Any] = {"d_sae": 64, "k": 3, "batch_size": 190, "epochs": 3, "dead_after_tokens": 400}
CASES: dict[str, dict[str, Any]] = {
    "topk": {"architecture": "topk", "tilt": 1.0, "clip_grad_norm": 5.0},
    "batchtopk": {"architecture": "batchtopk", "tilt": 1.0},
    "relu": {"architecture": "relu", "tilt": 0.3, "tilt_scale": "raw", "l1_coefficient": 1.0},
    "jumprelu": {"architecture": "jumprelu", "tilt": -1.0, "l0_coefficient": 0.3},
}
STEPS = (("batchtopk", DenseStep), ("batchtopk", SparseStep), ("topk", SparseStep), ("jumprelu", DenseStep))
UNTIL = 10
"""The step after which a run is broken off."""


def config(case: str) -> SAEConfig:
    return SAEConfig(**SHARED, **CASES[case])


def stillborn(case: str) -> SparseAutoencoder:
    """A start in which a quarter of the latents never fire."""
    sae = SparseAutoencoder(24, config(case), random_state=2)
    with torch.no_grad():
        sae.b_enc[:16] = -30
    return sae


def activations() -> torch.Tensor:
    """Sums of a few directions; 1,331 = 7 · 190 + 1 rows, so that of each epoch's last batch rank 1 has no row."""
    generator = torch.Generator().manual_seed(5)
    directions = torch.nn.functional.normalize(torch.randn(48, 24, generator=generator), dim=1)
    x = torch.full((1331, 24), 0.5)
    for _ in range(3):
        chosen = torch.randint(48, (len(x),), generator=generator)
        x += directions[chosen] * (1 + torch.rand(len(x), 1, generator=generator))
    return x


class BrokenOff:
    """The activations as a source that is interrupted when the batch after step `UNTIL` is asked for."""

    def __init__(self) -> None:
        self._inner = ArraySource(activations())
        self.n_tokens, self.d_in, self.fingerprint = self._inner.n_tokens, 24, self._inner.fingerprint
        self._passes = 0

    def batches(
        self, batch_size: int, *, shuffle: bool = True, random_state: int | None = None
    ) -> Iterator[torch.Tensor]:
        self._passes += 1
        for number, batch in enumerate(
            self._inner.batches(batch_size, shuffle=shuffle, random_state=random_state)
        ):
            # the first pass is the sample; eight batches an epoch
            if self._passes == 3 and number == UNTIL - 8:
                raise KeyboardInterrupt
            yield batch


def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(2, 12))) for _ in range(170)]


def build_store(home: Path, ranks: Ranks = ALONE) -> ActivationStore:
    return ActivationStore.build(
        home,
        make_tiny_model("bert"),
        texts(),
        ["embed", "resid.0"],
        shard_tokens=180,
        dtype="bfloat16",
        ranks=ranks,
    )


def gradients(step_of: Any, case: str, n: int, ranks: Ranks = ALONE) -> dict[str, torch.Tensor]:
    """The gradients of one step on the first `n` rows in float64, summed over ranks; some latents are dead."""
    sae = SparseAutoencoder(24, config(case), random_state=1).double()
    with torch.no_grad():
        sae.b_dec += 0.3
        sae.threshold += 0.4
    x = activations()[:n].double()

    def weigh(losses: torch.Tensor) -> torch.Tensor:
        return ranks.split(tilted_weights(ranks.joined(losses), 1.0))

    result = step_of(config(case), ranks)(sae, ranks.split(x), weigh, torch.tensor([3, 7, 50]))
    found = {name: ranks.add_up_(part.grad) for name, part in sae.named_parameters() if part.grad is not None}
    found["n_active"] = torch.tensor(ranks.total(result.n_active))
    return found


def save(folder: Path, name: str, ranks: Ranks, sae: SparseAutoencoder) -> None:
    weights = {key: part.detach().contiguous() for key, part in sae.named_parameters()}
    save_file(weights, folder / f"{name}-{ranks.rank}.safetensors")
    tell(folder, f"{name}-history", ranks.rank, sae.history_)


def tell(folder: Path, name: str, rank: int, fact: Any) -> None:
    (folder / f"{name}-{rank}.json").write_text(json.dumps(fact))


def exchange(folder: Path, ranks: Ranks) -> None:
    """Every operation once or more, on tensors that the test makes too."""
    own = [exchanged(seed, ranks.rank) for seed in range(12)]
    said: dict[str, Any] = {
        "gathered": [[part.tolist() for part in ranks.gathered(tensor)] for tensor in own],
        "joined": [ranks.joined(ranks.split(torch.arange(2.0 * n).view(n, 2))).tolist() for n in range(6)],
        "share": [ranks.share(n) for n in range(6)],
        "total": ranks.total(10 + ranks.rank),
        "least": [ranks.least(value) for value in (3.5 - ranks.rank, float("inf"))],
        "told": ranks.told({"rank": ranks.rank, "é": [1.1, None]}),
        "from_first": ranks.from_first(f"rank {ranks.rank}"),
    }
    table = torch.arange(6.0).view(3, 2).t() * (1 + ranks.rank)
    returned = ranks.add_up_(table)
    said["sum"] = [table.tolist(), returned is table, table.stride()]
    sent = {
        "scalar": torch.tensor(2.5),
        "long": torch.tensor([7]),
        "column": torch.arange(6.0).view(3, 2).t(),
    }
    received = ranks.tensors_from_first(sent if ranks.first else {})
    said["tensors"] = {name: [str(part.dtype), part.tolist()] for name, part in received.items()}
    try:
        ranks.require_same("test", {"n": 5, "seed": ranks.rank})
    except ValueError as error:
        said["differing"] = str(error)
    tell(folder, "exchange", ranks.rank, said)


def exchanged(seed: int, rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 5, (2,), generator=generator)[rank] if seed else torch.tensor(0)
    shape = (int(rows), 3) if seed % 2 else (int(rows),)
    return torch.randint(-9, 9, shape, generator=generator).to(
        [torch.float64, torch.int64, torch.uint8][seed % 3]
    )


def training(folder: Path, ranks: Ranks) -> None:
    x = activations()
    for case in CASES:
        options = {"validation": x[:100], "log_every": 6, "init": stillborn(case)}
        save(folder, case, ranks, train_sae(x, config(case), ranks=ranks, **options))
    small = SAEConfig(d_sae=16, k=2, batch_size=300)
    unseeded = train_sae(x, small, random_state=None, ranks=ranks)
    save(folder, "unseeded", ranks, unseeded)
    for case, step in STEPS:
        for n in (1, 77):
            found = gradients(step, case, n, ranks)
            if ranks.first:
                whole = {name: part.contiguous() for name, part in found.items()}
                save_file(whole, folder / f"{case}-{step.__name__}-{n}.safetensors")


def resuming(folder: Path, ranks: Ranks) -> None:
    """Break a run off, and go on with one that a single process began."""
    own_disk = folder / f"checkpoints-of-{ranks.rank}"
    try:
        train_sae(
            BrokenOff(),
            config("batchtopk"),
            checkpoint_dir=own_disk,
            checkpoint_every=3,
            log_every=6,
            ranks=ranks,
        )
    except KeyboardInterrupt:
        tell(folder, "broken-off", ranks.rank, True)
    begun = folder / ("begun-alone" if ranks.first else "checkpoints-of-1")
    with mock.patch.object(Trainer, "train_on", autospec=True, side_effect=Trainer.train_on) as steps:
        sae = train_sae(activations(), config("batchtopk"), checkpoint_dir=begun, log_every=6, ranks=ranks)
    save(folder, "resumed", ranks, sae)
    tell(folder, "resumed-steps", ranks.rank, steps.call_count)


def extracting(folder: Path, ranks: Ranks) -> None:
    store = build_store(folder / "store", ranks)
    if ranks.first:
        shards = sorted(store.directory.glob("shard-*"))
        shards[1].unlink()
        shards[3].write_bytes(shards[3].read_bytes()[:-3])
        (store.directory / ".killed.partial").write_bytes(b"half")
    ranks.from_first(None)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again = build_store(folder / "store", ranks)
    tell(folder, "store", ranks.rank, [again.manifest, [str(warning.message) for warning in said]])


def failing(folder: Path, ranks: Ranks) -> None:
    """One rank fails; last, since the group ends with it."""
    try:
        with ranks:
            if ranks.rank == 1:
                raise ValueError("the activations of rank 1 are no good")
            ranks.total(1)
    except Exception as error:
        tell(folder, "failure", ranks.rank, [type(error).__name__, str(error)])


def commands(folder: Path, ports: list[str]) -> None:
    """`ssae-debias extract` and `train`, as torchrun would start them, each in a group of its own."""
    store = folder / "store-of-command"
    extract = f"extract --model tiny --texts {folder / 'texts.txt'} --sites resid.0 --shard-tokens 180 -q --out {store}"
    train = (
        f"train --activations {store} --d-sae 32 --k 2 --batch-size 100 -q --out {folder / 'sae-of-command'}"
    )
    codes = []
    with mock.patch("ssae_debias.cli.extract.load_model", return_value=make_tiny_model("bert")):
        for port, command in zip(ports, (extract, train, f"{train} --site resid.9"), strict=True):
            os.environ["MASTER_PORT"] = port
            codes.append(main(command.split()))
    tell(folder, "commands", int(os.environ["RANK"]), codes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    everyone = Ranks.from_environment()
    for job in (exchange, training, resuming, extracting, failing):
        job(out, everyone)
    commands(out, sys.argv[2:])
