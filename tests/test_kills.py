"""Killed, out of room or without permission: the last good state stays, and going on ends with the same bytes.

A warm process (`forked_jobs.py`) forks for each job and ends the fork by SIGKILL: at random moments, before every
one of its file operations, and between two bytes of a file. What is then found on disk must be whole wherever it
stands under its own name; the job is done again, and every byte compared with those of an undisturbed run.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssae_debias.files import DamagedFileError, read_json, read_manifest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, which this system cannot"),
]

KILLED = -signal.SIGKILL
KILLS = 12
KINDS_SAVED = ("sae", "debiaser")


class Jobs:
    """The warm process; one line to it, one line back."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", Path(__file__).with_name("forked_jobs.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def __call__(self, kind: str, folder: Path, **job: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        folder.mkdir(parents=True, exist_ok=True)
        self._process.stdin.write(json.dumps({"kind": kind, "folder": str(folder), **job}) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def done(self, kind: str, folder: Path, **job: Any) -> float:
        """Seconds that the undisturbed job took."""
        answer = self(kind, folder, **job)
        assert answer["status"] == 0
        assert "error" not in answer, answer
        return float(answer["seconds"])

    def close(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture(scope="module")
def jobs() -> Iterator[Jobs]:
    started = Jobs()
    yield started
    started.close()


def _fresh() -> Iterator[Path]:
    # in memory where that can be: a killed process loses nothing that a disk would keep, and waiting for the disk
    # (every file is synchronised) would take nearly all of the time
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))
    # where the tests run as root, some act as somebody else
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    yield from _fresh()


@pytest.fixture(scope="module")
def kept() -> Iterator[Path]:
    yield from _fresh()


def content(folder: Path) -> dict[str, bytes]:
    """Every file that stands under its own name, that is, not under a hidden temporary one."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    return {name: data for name, data in found.items() if not any(part[0] == "." for part in name.split("/"))}


def moments(seed: int, longest: float) -> Iterator[float]:
    """Random moments within a job, spread evenly: one in each stretch before one comes twice."""
    rng = np.random.default_rng(seed)
    while True:
        stretches = rng.permutation(KILLS)
        yield from ((stretches + rng.random(KILLS)) / KILLS * longest).tolist()


@pytest.fixture(scope="module")
def whole_store(jobs: Jobs, kept: Path) -> tuple[dict[str, bytes], float]:
    jobs.done("extract", kept / "warm")
    seconds = jobs.done("extract", kept / "home")
    assert len(content(kept / "home")) > 15
    return content(kept / "home"), seconds


def expect_whole_shards(home: Path, reference: dict[str, bytes]) -> bool:
    """Check a store that a kill left; whether it is complete."""
    from ssae_debias.activations import ActivationStore

    found = content(home)
    shards = {name for name in found if "shard-" in name}
    assert all(found[name] == reference[name] for name in shards), "a shard under its name is whole"
    manifests = [json.loads(data) for name, data in found.items() if name.endswith("manifest.json")]
    listed = {file for manifest in manifests for file in manifest["files"]}
    assert listed <= {Path(name).name for name in shards}, "a listed shard stands there"
    try:
        ActivationStore.open(home)
    except (DamagedFileError, FileNotFoundError):
        return False
    assert found == reference
    return True


def test_extraction_killed_at_random_moments_goes_on(
    jobs: Jobs, tmp_path: Path, whole_store: tuple[dict[str, bytes], float]
) -> None:
    reference, seconds = whole_store
    kills, unfinished, shards_left = 0, 0, []
    for number, moment in enumerate(moments(0, seconds)):
        home = tmp_path / str(number)
        kills += jobs("extract", home, kill_after=moment)["status"] == KILLED
        unfinished += not expect_whole_shards(home, reference)
        shards_left.append(len([name for name in content(home) if "shard-" in name]))
        jobs.done("extract", home)
        assert content(home) == reference
        assert not list(home.glob("*/.*")), "what a kill left half-written is removed"
        if kills == KILLS:
            break
    assert unfinished >= KILLS // 2
    assert len(set(shards_left)) > 3, "the moments were spread over the run"


def test_extraction_killed_before_its_file_operations_goes_on(
    jobs: Jobs, tmp_path: Path, whole_store: tuple[dict[str, bytes], float]
) -> None:
    reference, _ = whole_store
    home, kills = tmp_path / "home", 0
    # killed again and again in one folder: each time a few operations later, so that the run creeps to its end
    while jobs("extract", home, kill_before=1 + 3 * kills)["status"] == KILLED:
        kills += 1
        expect_whole_shards(home, reference)
        assert kills < 100
    assert kills >= 10
    assert content(home) == reference


def test_extraction_killed_within_a_file_goes_on(
    jobs: Jobs, tmp_path: Path, whole_store: tuple[dict[str, bytes], float]
) -> None:
    reference, _ = whole_store
    sizes = sorted(len(data) for name, data in reference.items() if "shard-" in name)
    for limit in (100, sizes[len(sizes) // 2], sizes[-1] - 1):
        home = tmp_path / str(limit)
        assert jobs("extract", home, largest_file=limit, then="kill")["status"] == -signal.SIGXFSZ
        assert list(home.glob("*/.*")), "the kill left a file half-written"
        assert not expect_whole_shards(home, reference)
        jobs.done("extract", home)
        assert content(home) == reference
        assert not list(home.glob("*/.*")), "it is removed, whoever named it"


@pytest.fixture(scope="module")
def whole_run(jobs: Jobs, kept: Path) -> tuple[dict[str, bytes], float]:
    jobs.done("train", kept / "warm run")
    return content(kept / "warm run"), jobs.done("train", kept / "run")


def expect_whole_checkpoints(run: Path) -> int:
    """How many checkpoints a kill left; the newest two, and the SAE if it is there, must be whole."""
    steps = sorted(run.glob("checkpoints/*/step-*"))
    # an older one may have been killed while it was being removed
    for step in steps[-2:]:
        read_manifest(step, "sae-checkpoint")
    if (run / "sae").exists():
        read_manifest(run / "sae", "sae")
    return len(steps)


def test_training_killed_at_random_moments_goes_on(
    jobs: Jobs, tmp_path: Path, whole_run: tuple[dict[str, bytes], float]
) -> None:
    reference, seconds = whole_run
    assert len([name for name in reference if name.startswith("checkpoints/")]) == 2 * 3
    kills, newest = 0, set()
    for number, moment in enumerate(moments(1, seconds)):
        run = tmp_path / str(number)
        kills += jobs("train", run, kill_after=moment)["status"] == KILLED
        expect_whole_checkpoints(run)
        newest.add(max((step.name for step in run.glob("checkpoints/*/step-*")), default=""))
        jobs.done("train", run)
        assert content(run) == reference, "weights, optimiser, history: every byte"
        if kills == KILLS:
            break
    assert len(newest) > 3, "the moments were spread over the run"


def test_training_killed_before_its_file_operations_goes_on(
    jobs: Jobs, tmp_path: Path, whole_run: tuple[dict[str, bytes], float]
) -> None:
    reference, _ = whole_run
    run, kills = tmp_path / "run", 0
    while jobs("train", run, kill_before=1 + 11 * kills)["status"] == KILLED:
        kills += 1
        expect_whole_checkpoints(run)
        assert kills < 100
    assert kills >= 10
    assert content(run) == reference


@pytest.fixture(scope="module")
def saved(jobs: Jobs, kept: Path) -> dict[str, dict[str, Path]]:
    """Both versions of everything that is saved, undisturbed."""
    home = kept / "saved"
    for kind in KINDS_SAVED:
        for version in ("a", "b"):
            jobs.done(kind, home / kind / version, versions=[version])
        one, other = (content(home / kind / version) for version in ("a", "b"))
        assert one.keys() == other.keys()
        assert one != other
    return {kind: {version: home / kind / version for version in ("a", "b")} for kind in KINDS_SAVED}


def expect_a_version(folder: Path, versions: dict[str, Path]) -> str:
    """Which version a kill left; there must be one, whole."""
    found = content(folder)
    whole = [name for name, path in versions.items() if content(path) == found]
    assert whole, f"neither version stands in {folder}: {sorted(found)}"
    return whole[0]


@pytest.mark.parametrize("kind", KINDS_SAVED)
def test_saving_killed_at_random_moments_leaves_the_old_or_the_new(
    jobs: Jobs, tmp_path: Path, saved: dict[str, dict[str, Path]], kind: str
) -> None:
    versions, left = saved[kind], set()
    shutil.copytree(versions["b"], tmp_path / "here")
    # the fork saves one version over the other without end
    for moment in islice(moments(2, 0.5), KILLS):
        assert jobs(kind, tmp_path / "here", forever=True, kill_after=moment)["status"] == KILLED
        left.add(expect_a_version(tmp_path / "here", versions))
    assert left == {"a", "b"}
    jobs.done(kind, tmp_path / "here", versions=["b"])
    assert content(tmp_path / "here") == content(versions["b"])


@pytest.mark.skipif(sys.platform != "linux", reason="folders change places in one step on Linux alone")
@pytest.mark.parametrize(("kind", "stride"), [("sae", 1), ("debiaser", 6)])
def test_saving_killed_before_its_file_operations_leaves_the_old_or_the_new(
    jobs: Jobs, tmp_path: Path, saved: dict[str, dict[str, Path]], kind: str, stride: int
) -> None:
    versions, left = saved[kind], []
    for number in range(1, 1000, stride):
        here = tmp_path / str(number)
        shutil.copytree(versions["a"], here)
        status = jobs(kind, here, versions=["b"], kill_before=number)["status"]
        left.append(expect_a_version(here, versions))
        if status != KILLED:
            break
    assert len(left) > 15
    # the new one appears at one moment, and from then on stays
    assert left == sorted(left)
    assert (left[0], left[-1]) == ("a", "b")


@pytest.mark.parametrize("kind", KINDS_SAVED)
def test_saving_killed_within_a_file_leaves_the_old(
    jobs: Jobs, tmp_path: Path, saved: dict[str, dict[str, Path]], kind: str
) -> None:
    versions = saved[kind]
    sizes = sorted({len(data) for data in content(versions["b"]).values()})
    for number, size in enumerate(sizes):
        here = tmp_path / str(number)
        shutil.copytree(versions["a"], here)
        answer = jobs(kind, here, versions=["b"], largest_file=size - 1, then="kill")
        assert answer["status"] == -signal.SIGXFSZ
        assert expect_a_version(here, versions) == "a"


def test_checkpoints_killed_at_random_moments_are_whole(jobs: Jobs, tmp_path: Path) -> None:
    newest = 0
    for number, moment in enumerate(islice(moments(3, 0.5), KILLS)):
        answer = jobs("checkpoint", tmp_path, forever=True, kill_after=moment)
        assert answer["status"] == KILLED
        steps = sorted(tmp_path.glob("saved/*/step-*"))
        for step in steps[-2:]:
            read_manifest(step, "sae-checkpoint")
            assert read_json(step / "facts.json")["step"] == int(step.name.removeprefix("step-"))
        reached = int(steps[-1].name.removeprefix("step-")) if steps else 0
        assert reached >= newest, f"kill {number} cost a checkpoint"
        newest = reached
    assert newest > KILLS
    jobs.done("checkpoint", tmp_path, versions=["a"])
    assert [int(step.name[5:]) for step in sorted(tmp_path.glob("saved/*/step-*"))] == [newest, newest + 1]
    assert not list(tmp_path.glob("saved/*/.*"))


@pytest.mark.parametrize("kind", KINDS_SAVED)
def test_saving_that_reaches_the_size_limit_leaves_the_old_and_no_debris(
    jobs: Jobs, tmp_path: Path, saved: dict[str, dict[str, Path]], kind: str
) -> None:
    versions = saved[kind]
    for number, size in enumerate(sorted({len(data) for data in content(versions["b"]).values()})):
        here = tmp_path / str(number)
        shutil.copytree(versions["a"], here)
        answer = jobs(kind, here, versions=["b"], largest_file=size - 1)
        assert (answer["error"], answer["errno"]) == ("OSError", errno.EFBIG)
        assert str(here / "saved") in answer["said"]
        assert "file size limit reached" in answer["said"]
        assert expect_a_version(here, versions) == "a"
        assert [path.name for path in here.iterdir()] == ["saved"]
    jobs.done(kind, here, versions=["b"])
    assert content(here) == content(versions["b"])


def test_extraction_and_training_that_reach_the_size_limit_keep_what_is_whole(
    jobs: Jobs,
    tmp_path: Path,
    whole_store: tuple[dict[str, bytes], float],
    whole_run: tuple[dict[str, bytes], float],
) -> None:
    # the store's manifest grows with each shard: here it hits the limit half-way, with shards well below it
    reference, _ = whole_store
    manifest = next(len(data) for name, data in reference.items() if name.endswith("manifest.json"))
    shard = max(len(data) for name, data in reference.items() if "shard-" in name)
    for limit in (shard - 1, manifest // 2):
        home = tmp_path / f"home-{limit}"
        answer = jobs("extract", home, largest_file=limit)
        assert (answer["error"], answer["errno"]) == ("OSError", errno.EFBIG)
        assert str(home) in answer["said"]
        assert not expect_whole_shards(home, reference)
        assert not list(home.glob("*/.*"))
        jobs.done("extract", home)
        assert content(home) == reference
    # checkpoints' facts hold the history, which grows
    state = next(len(data) for name, data in whole_run[0].items() if name.endswith("state.safetensors"))
    answer = jobs("train", tmp_path / "run", largest_file=state - 1)
    assert (answer["error"], answer["errno"]) == ("OSError", errno.EFBIG)
    assert "step-00000002" in answer["said"]
    assert expect_whole_checkpoints(tmp_path / "run") == 0
    jobs.done("train", tmp_path / "run")
    assert content(tmp_path / "run") == whole_run[0]


def on_a_small_disk(jobs: Jobs, kind: str, folder: Path, size: int, **job: Any) -> dict[str, Any]:
    answer = jobs(kind, folder, disk_bytes=size, **job)
    if answer.get("error") in ("NotImplementedError", "AttributeError"):
        pytest.skip(f"this system lets the tests mount no disk: {answer['said']}")
    answer["left"] = {name: bytes.fromhex(data) for name, data in answer["left"].items()}
    return answer


@pytest.mark.parametrize("kind", KINDS_SAVED)
def test_saving_on_a_full_disk_leaves_the_old(
    jobs: Jobs, tmp_path: Path, saved: dict[str, dict[str, Path]], kind: str
) -> None:
    old = content(saved[kind]["a"])
    pages = sum(-(-len(data) // 4096) for data in old.values())
    shutil.copytree(saved[kind]["a"], tmp_path / "disk")
    # room for the old one and for a part of the new
    answer = on_a_small_disk(jobs, kind, tmp_path / "disk", 4096 * (pages + pages // 2), versions=["b"])
    assert (answer.get("error"), answer.get("errno")) == ("OSError", errno.ENOSPC)
    assert f"no space left while writing {tmp_path / 'disk' / 'saved'}" in answer["said"]
    assert answer["left"] == old, "the old one, and nothing half-written beside it"


def test_extraction_on_a_full_disk_keeps_whole_shards_and_goes_on(
    jobs: Jobs, tmp_path: Path, whole_store: tuple[dict[str, bytes], float]
) -> None:
    reference, _ = whole_store
    size = sum(map(len, reference.values()))
    answer = on_a_small_disk(jobs, "extract", tmp_path / "disk", size // 2)
    assert (answer["error"], answer["errno"]) == ("OSError", errno.ENOSPC)
    assert str(tmp_path / "disk") in answer["said"]
    for name, data in answer["left"].items():
        (tmp_path / "home" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "home" / name).write_bytes(data)
    assert len(answer["left"]) > 4
    assert not [name for name in answer["left"] if "partial" in name]
    assert not expect_whole_shards(tmp_path / "home", reference)
    jobs.done("extract", tmp_path / "home")
    assert content(tmp_path / "home") == reference


def refused(answer: dict[str, Any]) -> bool:
    if answer["said"].startswith("[Errno 1] Operation not permitted"):
        pytest.skip("root cannot become another user here, and nothing is forbidden to root")
    return (answer["error"], answer["errno"]) == ("PermissionError", errno.EACCES)


@pytest.mark.parametrize("kind", KINDS_SAVED)
def test_saving_into_a_read_only_folder_leaves_the_old(
    jobs: Jobs, tmp_path: Path, saved: dict[str, dict[str, Path]], kind: str
) -> None:
    # `first` writes version a with permission: what is imported late is then there for whoever comes after
    answer = jobs(kind, tmp_path, first="a", versions=["b"], read_only=str(tmp_path))
    assert refused(answer)
    assert f"no permission to write {tmp_path / 'saved'}" in answer["said"]
    assert expect_a_version(tmp_path, saved[kind]) == "a"
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_extraction_into_a_read_only_store_keeps_its_shards(
    jobs: Jobs, tmp_path: Path, whole_store: tuple[dict[str, bytes], float]
) -> None:
    reference, _ = whole_store
    assert jobs("extract", tmp_path / "home", kill_before=40)["status"] == KILLED
    before = content(tmp_path / "home")
    assert before
    (store,) = (tmp_path / "home").iterdir()
    answer = jobs("extract", tmp_path / "home", read_only=str(store))
    assert refused(answer)
    assert str(store) in answer["said"]
    assert content(tmp_path / "home") == before
    store.chmod(0o755)
    jobs.done("extract", tmp_path / "home")
    assert content(tmp_path / "home") == reference
