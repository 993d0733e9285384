"""Two ranks come to what one process comes to: operations, training, checkpoints, extraction, failures, torchrun."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rank_jobs as jobs
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore

from ssae_debias.cli import main
from ssae_debias.ranks import ALONE, RankFailedError, Ranks
from ssae_debias.sae import SAEConfig, SparseAutoencoder, load_sae, train_sae
from ssae_debias.sae.steps import DenseStep
from ssae_debias.sae.trainer import Trainer

CLOSE = {"rtol": 2e-5, "atol": 2e-6}
"""Sums of two parts are rounded otherwise than sums of one; forty steps of Adam keep what that makes below this."""


PATIENCE = 300
"""Seconds that ranks may take, on a machine that has other work to do."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As many threads as each rank has: matrix products depend on their number to the last bit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two ranks have done all of `rank_jobs`; a run that they go on with was begun here."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "texts.txt").write_text("\n".join(jobs.texts()) + "\n")
    with pytest.raises(KeyboardInterrupt):
        train_sae(
            jobs.BrokenOff(), jobs.config("batchtopk"), checkpoint_dir=folder / "begun-alone", checkpoint_every=3,
            log_every=6,
        )  # fmt: skip
    # as torchrun does, the starting process keeps the stores of all groups: a port that was merely found free would be
    # another process's by the time that a rank opens it
    stores = [TCPStore("127.0.0.1", 0, None, is_master=True, wait_for_workers=False) for _ in range(4)]
    port, *others = [str(store.port) for store in stores]
    common = {
        **os.environ,
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", jobs.__file__, str(folder), *others]
    processes = [
        subprocess.Popen(
            command, env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + PATIENCE
    try:
        said = [process.communicate(timeout=deadline - time.monotonic()) for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes == [0, 0], "\n".join(f"rank {rank}:\n{err}" for rank, (_, err) in enumerate(said))
    for rank, (out, err) in enumerate(said):
        (folder / f"out-{rank}.txt").write_text(out)
        (folder / f"err-{rank}.txt").write_text(err)
    return folder


def told(folder: Path, name: str) -> list[Any]:
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def assert_same_run(folder: Path, name: str, alone: SparseAutoencoder) -> None:
    """Both ranks hold the same bits, and a single process's weights and records to rounding."""
    first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in range(2))
    histories = told(folder, f"{name}-history")
    assert all(torch.equal(first[part], second[part]) for part in first)
    assert histories[0] == histories[1]
    for part, weights in alone.named_parameters():
        torch.testing.assert_close(first[part], weights.detach(), **CLOSE)
    assert len(histories[0]) == len(alone.history_)
    for record, expected in zip(histories[0], alone.history_, strict=True):
        assert record == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_operations_give_every_rank_what_all_said(done: Path) -> None:
    sent = [[jobs.exchanged(seed, rank).tolist() for rank in range(2)] for seed in range(12)]
    assert {len(part) for pair in sent for part in pair} >= {0, 1, 2, 3, 4}
    for rank, said in enumerate(told(done, "exchange")):
        assert said["gathered"] == sent
        assert said["joined"] == [torch.arange(2.0 * n).view(n, 2).tolist() for n in range(6)]
        assert said["share"] == [len(range(n)[rank::2]) for n in range(6)]
        assert said["total"] == 21
        assert said["least"] == [2.5, float("inf")]
        assert said["told"] == [{"rank": r, "é": [1.1, None]} for r in range(2)]
        assert said["from_first"] == "rank 0"
        # in place, in its own memory order
        assert said["sum"] == [[[0.0, 6.0, 12.0], [3.0, 9.0, 15.0]], True, [1, 2]]
        assert said["tensors"] == {
            "scalar": ["torch.float32", 2.5],
            "long": ["torch.int64", [7]],
            "column": ["torch.float32", [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]],
        }
        assert "rank 1 differs from rank 0 in seed: 1, not 0" in said["differing"]


@pytest.mark.parametrize("case", jobs.CASES)
def test_two_ranks_train_to_the_weights_of_one(done: Path, case: str) -> None:
    x = jobs.activations()
    alone = train_sae(x, jobs.config(case), validation=x[:100], log_every=6, init=jobs.stillborn(case))
    # AuxK had latents to revive meanwhile, the tilt told tokens apart, and the last batches had one row
    assert max(record["dead_fraction"] for record in alone.history_) > 0.2
    assert alone.history_[0]["effective_sample_size"] < 180
    assert (len(x) % 190, alone.history_[-1]["step"]) == (1, 24)
    assert_same_run(done, case, alone)


def test_ranks_share_one_seed_even_where_none_is_given(done: Path) -> None:
    first, second = (load_file(done / f"unseeded-{rank}.safetensors") for rank in range(2))
    assert all(torch.equal(first[part], second[part]) for part in first)


@pytest.mark.parametrize("n", [1, 77])
@pytest.mark.parametrize(("case", "step"), jobs.STEPS)
def test_the_ranks_gradients_add_up_to_the_whole_batchs(done: Path, case: str, step: type, n: int) -> None:
    found = load_file(done / f"{case}-{step.__name__}-{n}.safetensors")
    expected = jobs.gradients(DenseStep, case, n)
    assert found.keys() == expected.keys()
    assert float(expected["W_enc"][:, [3, 7, 50]].abs().sum()) > 0
    for name, part in expected.items():
        torch.testing.assert_close(found[name], part, rtol=1e-9, atol=1e-11)


def test_a_run_goes_on_with_another_number_of_ranks(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, config = jobs.activations(), jobs.config("batchtopk")
    whole = train_sae(x, config, log_every=6)
    # begun by one, gone on by two: rank 1 was told to look on a disk of its own, and needed nothing from it
    assert_same_run(done, "resumed", whole)
    assert told(done, "resumed-steps") == [24 - 9] * 2
    # begun by two, gone on by one
    assert told(done, "broken-off") == [True, True]
    assert not (done / "checkpoints-of-1").exists()
    assert [path.name for path in sorted(done.glob("checkpoints-of-0/*/*"))] == [
        "step-00000006",
        "step-00000009",
    ]
    steps = []
    train_on = Trainer.train_on
    monkeypatch.setattr(Trainer, "train_on", lambda self, x: steps.append(len(x)) or train_on(self, x))
    rest = train_sae(x, config, log_every=6, checkpoint_dir=done / "checkpoints-of-0")
    assert len(steps) == 24 - 9
    for one, other in zip(rest.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


def test_two_ranks_build_the_same_bytes(done: Path, tmp_path: Path) -> None:
    alone = jobs.build_store(tmp_path)
    together = done / "store" / alone.directory.name
    assert len(alone.manifest["shards"]) % 2 == 1
    # after the repair of a missing and a damaged shard
    files = sorted(path.name for path in alone.directory.iterdir())
    assert sorted(path.name for path in together.iterdir()) == files
    for name in files:
        assert (together / name).read_bytes() == (alone.directory / name).read_bytes(), name
    (manifest, warned), (manifest_of_1, warned_of_1) = told(done, "store")
    assert manifest == manifest_of_1 == alone.manifest
    assert warned_of_1 == []
    assert "2 shard(s)" in "".join(warned)


def test_when_one_rank_fails_the_others_say_why(done: Path) -> None:
    waiting, failed = told(done, "failure")
    assert failed == ["ValueError", "the activations of rank 1 are no good"]
    assert waiting == [
        "RankFailedError",
        "rank 1 failed: ValueError: the activations of rank 1 are no good; rank 0 stops too.",
    ]


def test_commands_share_their_work(done: Path, tmp_path: Path) -> None:
    assert told(done, "commands") == [[0, 0, 2]] * 2
    assert (done / "out-1.txt").read_text() == ""
    assert "texts at resid.0" in (done / "out-0.txt").read_text()
    assert "(rank 1 of 2): the store" in (done / "err-1.txt").read_text()
    store = next((done / "store-of-command").iterdir())
    arguments = [
        "train",
        "--activations",
        str(store),
        "--d-sae",
        "32",
        "--k",
        "2",
        "--batch-size",
        "100",
        "-q",
    ]
    assert main([*arguments, "--out", str(tmp_path / "sae")]) == 0
    together, alone = load_sae(done / "sae-of-command"), load_sae(tmp_path / "sae")
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    assert together.metadata["hook_name"] == "resid.0"


def test_torchrun_trains_what_one_process_trains(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", jobs.activations().numpy())
    arguments = [
        "train",
        "--activations",
        str(tmp_path / "x.npy"),
        "--d-sae",
        "64",
        "--k",
        "3",
        "--batch-size",
        "190",
    ]
    arguments += ["--tilt", "0.5", "--tokens", "2000", "--checkpoint-every", "4", "--random-state", "7", "-q"]
    finished = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "ssae_debias",
            *arguments, "--out", str(tmp_path / "two"), "--checkpoints", str(tmp_path / "checkpoints"),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.count("2000 tokens in 12 steps") == 1
    assert main([*arguments, "--out", str(tmp_path / "one")]) == 0
    together, alone = load_sae(tmp_path / "two"), load_sae(tmp_path / "one")
    for one, other in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)
    # the same command finds itself done, alone as well
    again = [*arguments, "--out", str(tmp_path / "again"), "--checkpoints", str(tmp_path / "checkpoints")]
    assert main(again) == 0
    for one, other in zip(load_sae(tmp_path / "again").parameters(), together.parameters(), strict=True):
        assert torch.equal(one, other)


class Late:
    """Work with a rank that is behind: it ends while the first wait for it is being given up."""

    def __init__(self, error: str | None = None) -> None:
        self.error, self.waits = error, 0

    def is_completed(self) -> bool:
        return self.waits > 0

    def wait(self, timeout: Any) -> None:
        self.waits += 1
        if self.waits == 1:
            raise RuntimeError("Operation timed out!")
        if self.error is not None:
            raise RuntimeError(self.error)


def test_a_rank_that_is_late_has_not_failed() -> None:
    late = Late()
    Ranks(0, 2)._collective(lambda async_op: late)
    assert late.waits == 2
    with pytest.raises(RankFailedError, match=r"without a word \(killed\?\); rank 0 stops too"):
        Ranks(0, 2)._collective(lambda async_op: Late("Connection closed by peer"))


def test_alone_nothing_is_exchanged() -> None:
    x = torch.arange(6.0).view(3, 2)
    for operation in (ALONE.split, ALONE.joined, ALONE.add_up_):
        assert operation(x) is x
    assert ALONE.gathered(x)[0] is x
    assert (ALONE.total(3), ALONE.least(2.5), ALONE.told("a"), ALONE.from_first("a")) == (3, 2.5, ["a"], "a")
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}, "RANK, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE must be a number, got 'two'"),
    ],
)
def test_half_an_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], said: str
) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=said):
        Ranks.from_environment()


def test_the_ranks_device_is_the_trainings() -> None:
    ranks = Ranks(0, 2, torch.device("cuda", 0))
    with pytest.raises(ValueError, match="device=ranks.device"):
        train_sae(jobs.activations(), SAEConfig(d_sae=8, k=2), ranks=ranks)
