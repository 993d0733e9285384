"""The shuffle buffer: every row once, in random order, never more rows in memory than asked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ssae_debias.activations import shuffled_batches


def chunks(sizes: list[int], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    rows = torch.arange(sum(sizes), dtype=dtype)[:, None].repeat(1, 3)
    return list(rows.split(sizes)) if sizes else []


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(0, 17), max_size=12),
    batch_size=st.integers(1, 9),
    extra=st.integers(0, 40),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16]),
    seed=st.integers(0, 9),
)
def test_every_row_comes_out_once(
    sizes: list[int], batch_size: int, extra: int, dtype: torch.dtype, seed: int
) -> None:
    given_chunks = chunks(sizes, dtype)
    options = {"buffer_rows": batch_size + extra, "random_state": seed}
    batches = list(shuffled_batches(given_chunks, batch_size, **options))
    n = sum(sizes)
    assert [len(batch) for batch in batches] == [batch_size] * (n // batch_size) + [n % batch_size] * (
        n % batch_size > 0
    )
    assert all(batch.dtype == torch.float32 for batch in batches)
    if n:
        rows = torch.cat(batches)
        assert rows[:, 0].sort().values.tolist() == list(range(n))
        assert (rows == rows[:, :1]).all()
    again = shuffled_batches(given_chunks, batch_size, **options)
    assert all(torch.equal(one, other) for one, other in zip(batches, again, strict=True))


def test_rows_held_are_bounded_by_the_buffer() -> None:
    read = 0

    def stream() -> Iterator[Tensor]:
        nonlocal read
        for chunk in chunks([50] * 200):
            read += len(chunk)
            yield chunk

    given_out = 0
    for batch in shuffled_batches(stream(), 32, buffer_rows=256, random_state=0):
        given_out += len(batch)
        # the buffer, the batch that is being handed out, and the chunk that the stream is in
        assert read - given_out <= 256 + 32 + 50
    assert given_out == 10_000


def test_order_is_mixed_about_a_buffers_length() -> None:
    rows = torch.cat(list(shuffled_batches(chunks([100] * 50), 20, buffer_rows=500, random_state=0)))[:, 0]
    moved = np.abs(rows.numpy() - np.arange(len(rows)))
    assert 200 < moved.mean() < 1000
    assert np.corrcoef(rows[:-1], rows[1:])[0, 1] < 0.97
    whole = torch.cat(list(shuffled_batches(chunks([1000]), 20, buffer_rows=1000, random_state=0)))[:, 0]
    assert abs(np.corrcoef(whole, np.arange(1000))[0, 1]) < 0.1, "a buffer that holds all shuffles perfectly"


def test_batches_are_the_callers_to_change() -> None:
    source = chunks([8])
    for batch in shuffled_batches(source, 4, buffer_rows=8, random_state=0):
        batch.zero_()
    assert source[0][:, 0].tolist() == list(range(8))


@pytest.mark.parametrize(("batch_size", "buffer_rows"), [(0, 5), (6, 5)])
def test_batch_must_fit_the_buffer(batch_size: int, buffer_rows: int) -> None:
    with pytest.raises(ValueError, match="batch_size"):
        shuffled_batches(chunks([9]), batch_size, buffer_rows=buffer_rows)
