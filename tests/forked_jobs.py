"""A warm process that does each job in a fork of itself, and kills the fork at a chosen moment.

Importing PyTorch takes seconds and a fork milliseconds, so that hundreds of kills are affordable. Run as a script by
`test_kills.py`: a line of JSON on stdin says what to do (`Job`), a line on stdout how it ended. It stays
single-threaded, since a fork takes only the thread that forks.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "activations"))

import numpy as np
import torch
from tiny_text_models import NOUNS, WORDS, make_tiny_model

from ssae_debias import SSAEDebiaser
from ssae_debias.activations import ActivationStore, TextModel
from ssae_debias.sae import SAEConfig, SparseAutoencoder, train_sae
from ssae_debias.sae.checkpoints import Checkpoints

VERSIONS = ("a", "b")
NOBODY = 65534


@cache
def model() -> TextModel:
    return make_tiny_model("bert")


@cache
def texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(2, 12))) for _ in range(150)]


@cache
def tokens() -> torch.Tensor:
    return torch.randn(1500, 24, generator=torch.Generator().manual_seed(0))


@cache
def sae(version: str) -> SparseAutoencoder:
    made = SparseAutoencoder(64, SAEConfig(d_sae=256, k=4), random_state=VERSIONS.index(version))
    made.history_ = [{"step": 1, "loss": float(VERSIONS.index(version))}]
    return made


@cache
def debiaser(version: str) -> SSAEDebiaser:
    about = [f"{who} is a {noun} {rest}" for noun in NOUNS for who in ("he", "she") for rest in WORDS[-6:]]
    return SSAEDebiaser(
        model(),
        sites=["embed", "resid.0"],
        output_site="resid.1",
        d_sae=32,
        k=4,
        train_tokens=500,
        random_state=VERSIONS.index(version),
    ).fit(about)


def extract(folder: Path) -> None:
    ActivationStore.build(folder, model(), texts(), ["embed", "resid.1"], shard_tokens=40)


def train(folder: Path) -> None:
    config = SAEConfig(d_sae=128, k=3, batch_size=100, epochs=2, tilt=0.5)
    trained = train_sae(tokens(), config, checkpoint_dir=folder / "checkpoints", checkpoint_every=2)
    trained.save_pretrained(folder / "sae")


def save_sae(folder: Path, version: str) -> None:
    sae(version).save_pretrained(folder / "saved")


def save_debiaser(folder: Path, version: str) -> None:
    debiaser(version).save(folder / "saved")


def save_checkpoint(folder: Path, version: str) -> None:
    """The step that follows the newest: the checkpoint of a version names it in its facts."""
    checkpoints = Checkpoints(folder / "saved", {"random_state": 0})
    newest = checkpoints.newest()
    step = 1 if newest is None else newest[1]["step"] + 1
    weights = dict(sae(version).named_parameters())
    checkpoints.save(step, weights, {"step": step, "version": version})


JOBS: dict[str, Callable[..., None]] = {
    "extract": extract,
    "train": train,
    "sae": save_sae,
    "debiaser": save_debiaser,
    "checkpoint": save_checkpoint,
}


def prepare(kind: str) -> None:
    """What all forks share is made once, before the first."""
    model(), texts(), tokens()
    for version in VERSIONS:
        sae(version)
        if kind == "debiaser":
            debiaser(version)


def run(job: dict[str, Any]) -> None:
    """Do the job in this process, under the conditions that it names."""
    folder, work = Path(job["folder"]), JOBS[job["kind"]]
    if job.get("first"):
        work(folder, job["first"])
    if job.get("disk_bytes"):
        _mount_small_disk(folder, job["disk_bytes"])
    if job.get("read_only"):
        _make_read_only(Path(job["read_only"]))
    if job.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"],) * 2)
        if job.get("then") == "kill":
            # the system ends the process between two bytes of a file
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    if job.get("kill_before"):
        _kill_before_operation(job["kill_before"], folder)
    if job.get("forever"):
        for version in cycle(VERSIONS):
            work(folder, version)
    work(folder, *job.get("versions", ()))


def _kill_before_operation(number: int, folder: Path) -> None:
    """SIGKILL to this process before it opens, renames, removes … for the nth time inside `folder`."""
    done, inside = 0, str(folder)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal done
        touches_files = event == "open" or event.startswith(("os.", "shutil.", "tempfile.", "glob."))
        if touches_files and arguments and inside in str(arguments[0]):
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(heard)


def _make_read_only(folder: Path) -> None:
    """Take away the right to write to a folder: from root too, by becoming somebody else."""
    folder.chmod(0o555)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def _mount_small_disk(folder: Path, size: int) -> None:
    """A file system of its own that only this process sees, with what is in `folder` copied into it."""
    import shutil

    new_namespace, recursive, private = 0x00020000, 0x4000, 1 << 18
    libc = ctypes.CDLL(None, use_errno=True)
    before = folder.with_name(folder.name + "-before")
    shutil.copytree(folder, before)
    done = (
        libc.unshare(new_namespace) == 0
        and libc.mount(None, b"/", None, recursive | private, None) == 0
        and libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()) == 0
    )
    if not done:
        raise NotImplementedError(f"no disk can be mounted: {os.strerror(ctypes.get_errno())}")
    shutil.copytree(before, folder, dirs_exist_ok=True)


def _child(job: dict[str, Any], answer: int) -> None:
    result: dict[str, Any] = {}
    start = time.perf_counter()
    try:
        run(job)
    except BaseException as error:
        result = {"error": type(error).__name__, "errno": getattr(error, "errno", None), "said": str(error)}
    result["seconds"] = time.perf_counter() - start
    if job.get("disk_bytes"):
        # the disk goes with the process: show what is on it
        result["left"] = {
            str(path.relative_to(job["folder"])): path.read_bytes().hex()
            for path in sorted(Path(job["folder"]).rglob("*"))
            if path.is_file()
        }
    with os.fdopen(answer, "w") as out:
        json.dump(result, out)
    # without the farewells of a Python process: they are the parent's
    os._exit(0)


def do(job: dict[str, Any]) -> dict[str, Any]:
    """Fork, let the child work, kill it when its time has come, and tell how it ended."""
    prepare(job["kind"])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(job, writing)
    os.close(writing)
    if job.get("kill_after") is not None:
        time.sleep(job["kill_after"])
        # a child that has ended waits as a zombie: its number is nobody else's yet
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reading) as answer:
        said = answer.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # an answer that was cut off is none
    return {"status": status, **(json.loads(said) if status == 0 else {})}


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(do(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
