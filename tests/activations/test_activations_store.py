"""The store: computed once, found again, killed and continued, damaged and repaired."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_text_models import WORDS

from ssae_debias.activations import (
    ActivationStore,
    TextModel,
    load_model,
    read_tokens,
    resolve_site,
)
from ssae_debias.files import DamagedFileError

Make = Callable[..., TextModel]
SITES = ["embed", "resid.1"]


@pytest.fixture
def many_texts() -> list[str]:
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, size=rng.integers(1, 12))) for _ in range(30)]


@pytest.fixture
def model(tiny_model: Make) -> TextModel:
    return tiny_model("bert")


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@contextmanager
def counted_forwards(model: TextModel) -> Iterator[list[int]]:
    texts_seen: list[int] = []
    forward = model.module.forward

    def counting(**named: Any) -> Any:
        texts_seen.append(len(named["input_ids"]))
        return forward(**named)

    model.module.forward = counting
    yield texts_seen
    model.module.forward = forward


def build(tmp_path: Path, model: TextModel, texts: list[str], **options: Any) -> ActivationStore:
    return ActivationStore.build(tmp_path / "home", model, texts, SITES, **{"shard_tokens": 32, **options})


def test_store_holds_what_reading_gives(tmp_path: Path, model: TextModel, many_texts: list[str]) -> None:
    store = build(tmp_path, model, many_texts)
    assert len(list(store.directory.glob("shard-*"))) > 4
    text_index, position, token_id = store.tokens()
    order = np.lexsort((position, text_index))
    assert (order == np.arange(store.n_tokens)).all(), "texts in their order, tokens in theirs"
    (batch,) = read_tokens(model, many_texts, SITES)
    back = np.lexsort((batch.position, batch.text_index))
    np.testing.assert_array_equal(text_index, batch.text_index[back])
    np.testing.assert_array_equal(position, batch.position[back])
    np.testing.assert_array_equal(token_id, batch.token_id[back])
    for site in SITES:
        expected = batch.activations[site][torch.from_numpy(back)]
        torch.testing.assert_close(store.read(site), expected, rtol=1e-4, atol=1e-5)
    assert (store.n_texts, store.sites, store.d_model) == (30, ("embed", "resid.1"), 16)
    shards = list(store.token_batches())
    np.testing.assert_array_equal(np.concatenate([shard.token_id for shard in shards]), token_id)
    np.testing.assert_array_equal(np.concatenate([shard.text_index for shard in shards]), text_index)
    assert torch.equal(torch.cat([shard.activations["embed"] for shard in shards]), store.read("embed"))


def test_no_shard_exceeds_its_tokens(tmp_path: Path, model: TextModel, many_texts: list[str]) -> None:
    store = build(tmp_path, model, many_texts)
    sizes = [shard["n_tokens"] for shard in store.manifest["shards"]]
    assert max(sizes) <= 32
    ends = [shard["texts"] for shard in store.manifest["shards"]]
    assert ends[0][0] == 0
    assert ends[-1][1] == 30
    assert all(one[1] == other[0] for one, other in pairwise(ends))
    each = build(tmp_path, model, many_texts[:9], shard_tokens=1)
    assert len(each.manifest["shards"]) == 9, "a longer text is a shard of its own"
    rows = store.read("resid.1", slice(0, each.n_tokens))
    torch.testing.assert_close(each.read("resid.1"), rows, rtol=1e-4, atol=1e-5)


def test_rows_are_read_across_shards(tmp_path: Path, model: TextModel, many_texts: list[str]) -> None:
    store = build(tmp_path, model, many_texts)
    everything = store.read("resid.1")
    for rows in (slice(0, 0), slice(3, 100), slice(60, 70), slice(-5, None), slice(10, 5), slice(0, 10**9)):
        assert torch.equal(store.read("resid.1", rows), everything[rows])
    with pytest.raises(ValueError, match="step 1"):
        store.read("resid.1", slice(0, 10, 2))
    with pytest.raises(ValueError, match=r"no site 'resid\.0'; it holds embed, resid\.1"):
        store.read("resid.0")


def test_same_request_runs_no_model(tmp_path: Path, model: TextModel, many_texts: list[str]) -> None:
    first = build(tmp_path, model, many_texts)
    before = contents(first.directory)
    with counted_forwards(model) as forwards:
        again = ActivationStore.build(tmp_path / "home", model, many_texts, SITES[::-1], shard_tokens=32)
    assert not forwards
    assert again.directory == first.directory
    assert contents(again.directory) == before
    assert torch.equal(ActivationStore.open(first.directory).read("embed"), first.read("embed"))


def test_other_requests_live_beside_each_other(
    tmp_path: Path, tiny_model: Make, model: TextModel, texts: list[str]
) -> None:
    stores = [
        build(tmp_path, model, texts),
        build(tmp_path, model, texts[::-1]),
        build(tmp_path, model, texts, include_special=True),
        build(tmp_path, model, texts, max_length=5),
        build(tmp_path, model, texts, dtype="float16"),
        build(tmp_path, tiny_model("bert", seed=1), texts),
        ActivationStore.build(tmp_path / "home", model, texts, "embed", shard_tokens=32),
    ]
    assert len({store.directory for store in stores}) == len(stores)
    with pytest.raises(ValueError, match="holds 7 stores"):
        ActivationStore.open(tmp_path / "home")
    with pytest.raises(FileNotFoundError, match=r"ActivationStore\.build"):
        ActivationStore.open(tmp_path)


KILLED_WHILE_WRITING_THE_THIRD_SHARD = """
import os, signal, sys
from pathlib import Path
import safetensors.torch
from ssae_debias.activations import ActivationStore, load_model

folder, home = sys.argv[1:]
save_file, written = safetensors.torch.save_file, []

def killed(tensors, path):
    save_file(tensors, path)
    written.append(path)
    if len(written) == 3:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

safetensors.torch.save_file = killed
texts = Path(folder, "texts.txt").read_text().splitlines()
ActivationStore.build(home, load_model(folder), texts, ["embed", "resid.1"], shard_tokens=32)
"""


def test_killed_build_goes_on_to_identical_bytes(
    tmp_path: Path, model: TextModel, many_texts: list[str]
) -> None:
    folder = tmp_path / "model"
    model.module.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)
    (folder / "texts.txt").write_text("\n".join(many_texts))
    model = load_model(folder)
    home = tmp_path / "home"
    child = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING_THE_THIRD_SHARD, folder, home], check=False
    )
    assert child.returncode == -signal.SIGKILL
    (killed,) = home.iterdir()
    assert len(list(killed.glob("shard-*"))) == 2
    assert len(list(killed.glob(".*.partial"))) == 1
    with pytest.raises(DamagedFileError, match="was not finished"):
        ActivationStore.open(killed)

    reference = ActivationStore.build(tmp_path / "other", model, many_texts, SITES, shard_tokens=32)
    with counted_forwards(model) as forwards:
        store = build(tmp_path, model, many_texts)
    assert contents(store.directory) == contents(reference.directory)
    whole = store.manifest["shards"][1]["texts"][1]
    assert sum(forwards) == 1 + len(many_texts) - whole, "what was whole was not computed again"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    "damage", [flip, lambda file: os.truncate(file, 100), Path.unlink], ids=["bit", "truncated", "deleted"]
)
def test_damaged_shard_is_found_and_it_alone_computed_again(
    tmp_path: Path, model: TextModel, many_texts: list[str], damage: Callable[[Path], None]
) -> None:
    store = build(tmp_path, model, many_texts)
    before = contents(store.directory)
    shard = store.manifest["shards"][2]
    name = f"shard-{shard['texts'][0]:08d}.safetensors"
    damage(store.directory / name)
    with pytest.raises(DamagedFileError, match=name):
        ActivationStore.open(store.directory)
    with counted_forwards(model) as forwards, pytest.warns(UserWarning, match=f"1 shard.*{name}"):
        repaired = build(tmp_path, model, many_texts)
    assert contents(repaired.directory) == before
    # one more forward pass of one text finds the widths
    assert sum(forwards) == shard["texts"][1] - shard["texts"][0] + 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"kind": "other"}'])
def test_damaged_manifest_is_rebuilt(
    tmp_path: Path, model: TextModel, many_texts: list[str], content: str
) -> None:
    store = build(tmp_path, model, many_texts)
    before = contents(store.directory)
    (store.directory / "manifest.json").write_text(content)
    with pytest.warns(UserWarning, match="is damaged"):
        repaired = build(tmp_path, model, many_texts)
    assert contents(repaired.directory) == before


def test_full_disk_leaves_the_last_good_state(
    tmp_path: Path, model: TextModel, many_texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file, calls = safetensors.torch.save_file, 0

    def full_at_the_third(tensors: Any, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save_file(tensors, path)

    monkeypatch.setattr(safetensors.torch, "save_file", full_at_the_third)
    with pytest.raises(OSError, match=r"no space left while writing .*shard-"):
        build(tmp_path, model, many_texts)
    (folder,) = (tmp_path / "home").iterdir()
    left = sorted(contents(folder))
    assert [name[:5] for name in left] == ["manif", "shard", "shard"]
    assert len(json.loads((folder / "manifest.json").read_text())["shards"]) == 2
    store = build(tmp_path, model, many_texts)
    monkeypatch.undo()
    other = ActivationStore.build(tmp_path / "other", model, many_texts, SITES, shard_tokens=32)
    assert contents(store.directory) == contents(other.directory)


def test_error_of_the_file_system_inside_safetensors_is_an_oserror(
    tmp_path: Path, model: TextModel, many_texts: list[str]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match="shard-00000000") as caught:
            build(tmp_path, model, many_texts)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert not list((tmp_path / "home").glob("*/*"))


def test_place_that_cannot_be_written_is_an_oserror(
    tmp_path: Path, model: TextModel, texts: list[str]
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(OSError, match="home"):
        build(tmp_path, model, texts)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_stored_and_read_as_float32(
    tmp_path: Path, model: TextModel, many_texts: list[str], dtype: str
) -> None:
    full, half = build(tmp_path, model, many_texts), build(tmp_path, model, many_texts, dtype=dtype)
    expected = full.read("resid.1").to(getattr(torch, dtype)).float()
    assert torch.equal(half.read("resid.1"), expected)
    shuffled = torch.cat(list(half.batches("resid.1", 7, random_state=0)))
    assert shuffled.dtype == torch.float32
    assert torch.equal(shuffled.sort(0).values, expected.sort(0).values)


def test_activations_too_large_for_float16_are_refused(
    tmp_path: Path, model: TextModel, texts: list[str]
) -> None:
    with torch.no_grad():
        model.module.embeddings.LayerNorm.weight.fill_(1e6)
    with pytest.raises(ValueError, match=r"embed exceed what float16 holds .* bfloat16"):
        build(tmp_path, model, texts, dtype="float16")
    assert not list((tmp_path / "home").glob("*/*"))
    assert build(tmp_path, model, texts, dtype="bfloat16").read("embed").isfinite().all()


def test_batches_cover_every_row(tmp_path: Path, model: TextModel, many_texts: list[str]) -> None:
    store = build(tmp_path, model, many_texts)
    rows = store.read("resid.1")
    assert torch.equal(torch.cat(list(store.batches("resid.1", 7, shuffle=False))), rows)
    for buffer_tokens in (8, 50, 10**6):
        options: dict[str, Any] = {"random_state": 3, "buffer_tokens": buffer_tokens}
        batches = torch.cat(list(store.batches("resid.1", 8, **options)))
        assert not torch.equal(batches, rows)
        assert torch.equal(batches.sort(0).values, rows.sort(0).values)
        assert torch.equal(torch.cat(list(store.batches("resid.1", 8, **options))), batches)
    other = torch.cat(list(store.batches("resid.1", 8, random_state=4)))
    assert not torch.equal(other, torch.cat(list(store.batches("resid.1", 8, random_state=3))))
    source = store.at("resid.1")
    assert (source.n_tokens, source.d_in) == tuple(rows.shape)
    assert torch.equal(torch.cat(list(source.batches(8, random_state=4))), other)


HELD_BY_A_PASS = """
import json, sys, time
from pathlib import Path
from ssae_debias.activations import ActivationStore

def held():
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {kind: 1024 * int(lines[kind].split()[0]) for kind in ("RssAnon", "RssFile")}

def batches():
    return ActivationStore.open(sys.argv[1]).batches("embed", 1024, random_state=0, buffer_tokens=4096)

next(batches())  # code is read from its file when it runs for the first time
before = held()
most = dict.fromkeys(before, 0)
for _ in batches():
    time.sleep(0.02)  # the caller works, and batches are fetched
    most = {kind: max(most[kind], now - before[kind]) for kind, now in held().items()}
print(json.dumps(most))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_memory_of_a_shuffled_pass_is_bounded(tmp_path: Path, tiny_model: Make) -> None:
    model = tiny_model("bert", hidden_size=384, max_position_embeddings=128, num_hidden_layers=1)
    texts = [" ".join(WORDS[i % len(WORDS)] for i in range(j, j + 120)) for j in range(250)]
    store = ActivationStore.build(tmp_path, model, texts, "embed", shard_tokens=4096)
    # in a process of its own, that gives freed memory back at once: what glibc keeps by default is up to 30 MB, depends
    # on which thread ran when, and in this process on the tests before
    child = subprocess.run(
        [sys.executable, "-c", HELD_BY_A_PASS, store.directory],
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"},
        capture_output=True,
        text=True,
        check=True,
    )
    most = json.loads(child.stdout)
    row = store.d_model * 4
    buffer, batch, shard = 4096 * row, 1024 * row, 4096 * row
    assert store.n_tokens * row > 45e6
    # two batches ahead, one in the making and the caller's; 3 MB for the threads, and since pages may be of 2 MB
    assert buffer < most["RssAnon"] < buffer + 4 * batch + 3e6
    # while one shard follows another both are mapped
    assert 0 < most["RssFile"] < 2 * shard + 3e6


def test_edited_model_is_refused(tmp_path: Path, model: TextModel, texts: list[str]) -> None:
    with (
        resolve_site(model.module, "resid.0").attach(torch.zeros_like),
        pytest.raises(ValueError, match="forward hooks"),
    ):
        build(tmp_path, model, texts)
    build(tmp_path, model, texts)


def test_texts_without_any_token_are_refused(tmp_path: Path, model: TextModel) -> None:
    with pytest.warns(UserWarning, match="empty"), pytest.raises(ValueError, match="nothing to store"):
        build(tmp_path, model, ["", " "])
    assert not list(tmp_path.rglob("*"))


def test_empty_texts_among_others_keep_their_index(tmp_path: Path, model: TextModel) -> None:
    with pytest.warns(UserWarning, match="empty"):
        store = build(tmp_path, model, ["", "a nurse", "", "care", ""], shard_tokens=2)
    assert store.tokens()[0].tolist() == [1, 1, 3]
    assert store.n_texts == 5


@pytest.mark.parametrize(
    "options",
    [{"dtype": "int8"}, {"shard_tokens": 0}, {"max_length": 1000}],
    ids=lambda options: next(iter(options)),
)
def test_bad_options_are_refused(
    tmp_path: Path, model: TextModel, texts: list[str], options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        build(tmp_path, model, texts, **options)
    assert not list(tmp_path.rglob("*"))


def test_real_models_are_stored(tmp_path: Path, minilm_path: Path, stories_path: Path) -> None:
    for path, site in ((minilm_path, "resid.3"), (stories_path, "resid.2")):
        model = load_model(path)
        store = ActivationStore.build(tmp_path / path.name, model, ["She was a nurse.", "He is."], site)
        (batch,) = read_tokens(model, ["She was a nurse.", "He is."], site)
        torch.testing.assert_close(store.read(site), batch.activations[site])
