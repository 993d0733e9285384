"""Reading ahead: in order, bounded, with errors passed on, and no thread left behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_text_models import TEXTS, make_tiny_model

from ssae_debias.activations import ActivationStore, prefetched

WAIT = 20.0


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetching"]


@settings(deadline=None)
@given(items=st.lists(st.none() | st.integers()), ahead=st.integers(1, 5))
def test_items_come_once_and_in_order(items: list[int | None], ahead: int) -> None:
    assert list(prefetched(iter(items), ahead=ahead)) == items
    assert not threads()


class Counted:
    """Counts the items taken from it, and wakes whoever waits for a certain number."""

    def __init__(self, n: int, fail_at: int | None = None) -> None:
        self.n, self.fail_at = n, fail_at
        self.taken, self.closed_in = 0, ""
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self.n):
                if number == self.fail_at:
                    raise KeyError("broken here")
                with self._changed:
                    self.taken += 1
                    self._changed.notify_all()
                yield number
        finally:
            self.closed_in = threading.current_thread().name

    def reaches(self, taken: int, seconds: float = WAIT) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.taken >= taken, seconds)


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_the_next_items_are_fetched_while_the_caller_works_and_no_more(ahead: int) -> None:
    source = Counted(100)
    items = prefetched(source, ahead=ahead)
    assert not threads(), "nothing is read before the first item is asked for"
    for number in range(5):
        assert next(items) == number
        # the caller does nothing now, and yet they come
        assert source.reaches(number + 1 + ahead)
        assert not source.reaches(number + 2 + ahead, seconds=0.02)
    items.close()  # type: ignore[attr-defined]


def test_an_error_comes_where_the_item_would_and_ends_the_thread() -> None:
    items = prefetched(Counted(10, fail_at=3), ahead=2)
    assert [next(items) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError, match="broken here") as caught:
        next(items)
    assert "__iter__" in [entry.name for entry in caught.traceback], "it tells where it happened"
    assert not threads()
    with pytest.raises(StopIteration):
        next(items)


@pytest.mark.parametrize("leave", ["break", "close", "raise", "cycle"])
def test_the_thread_ends_when_the_caller_stops(leave: str) -> None:
    source = Counted(10**9)
    items = prefetched(source)
    assert next(items) == 0
    if leave == "close":
        items.close()  # type: ignore[attr-defined]
    elif leave == "raise":
        with pytest.raises(RuntimeError, match="caller"):
            for _ in items:
                raise RuntimeError("caller")
        del items
    elif leave == "cycle":
        held: list[object] = [items]
        held.append(held)
        del items, held
        gc.collect()
    else:
        for _ in items:
            break
        del items
    for thread in threads():
        thread.join(WAIT)
    assert not threads()
    assert source.closed_in == "prefetching", "files are let go of, and by the thread that read them"
    assert source.taken <= 5


def test_nothing_ahead_is_refused() -> None:
    with pytest.raises(ValueError, match="ahead must be at least 1, got 0"):
        prefetched([1], ahead=0)


@pytest.fixture
def store(tmp_path: Path) -> ActivationStore:
    texts = list(TEXTS) * 6
    return ActivationStore.build(tmp_path, make_tiny_model("bert"), texts, "resid.0", shard_tokens=16)


@pytest.mark.parametrize("shuffle", [True, False])
def test_the_stores_batches_are_read_ahead(store: ActivationStore, shuffle: bool) -> None:
    batches = store.batches("resid.0", 4, shuffle=shuffle, random_state=0)
    first = next(batches)
    (thread,) = threads()
    assert thread.is_alive()
    rest = list(batches)
    assert not threads()
    everything = torch.cat([first, *rest])
    assert torch.equal(everything.sort(0).values, store.read("resid.0").sort(0).values)


@pytest.mark.parametrize("shuffle", [True, False])
def test_an_error_of_the_disk_reaches_the_caller(store: ActivationStore, shuffle: bool) -> None:
    names = sorted(path.name for path in store.directory.glob("shard-*"))
    (store.directory / names[2]).unlink()
    with pytest.raises(FileNotFoundError, match=names[2]):
        list(store.batches("resid.0", 4, shuffle=shuffle, random_state=0))
    assert not threads()


def test_a_callers_generator_does_not_show_how_far_the_thread_has_read(store: ActivationStore) -> None:
    states = []
    for taken in (1, 5):
        rng = np.random.default_rng(3)
        batches = store.batches("resid.0", 4, random_state=rng)
        for _ in range(taken):
            next(batches)
        states.append(rng.integers(10**9))
    assert states[0] == states[1]
    one, other = (
        torch.cat(list(store.batches("resid.0", 4, random_state=np.random.default_rng(3)))) for _ in range(2)
    )
    assert torch.equal(one, other)


def test_at_most_one_shard_is_held_open(store: ActivationStore) -> None:
    assert len(store.manifest["shards"]) > 5
    for _ in store.token_batches():
        pass
    list(store.batches("resid.0", 4, random_state=0))
    store.read("resid.0")
    mapped = {
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(store.directory) in line
    }
    assert len(mapped) <= 1
