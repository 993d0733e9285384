"""Several processes at one job: who this one is, and the few things that they tell each other.

`torchrun --nproc-per-node=N` starts N *ranks*, processes that run the same program. Here each does its part of the
work and hears of the others' by *collectives*: operations that every rank calls at the same place in the program,
and that end when all have. A batch's row i belongs to rank i mod N (`Ranks.split`), so that whatever is done to the
first rows of a batch is shared by all.

Alone, a process is rank 0 of 1, and every operation gives back what it was given: code is written once, for any
number of ranks. Floating-point sums of several ranks are made in another order than one process makes them, so that
results agree to rounding, not to the bit; between two runs with as many ranks they agree to the bit.

When one rank fails it tells the others why before it goes, and each of them stops with that reason.

References
----------
PyTorch: "Distributed communication package" (collectives; gloo for CPUs, NCCL for CUDA) and "torchrun" (the
environment variables RANK, WORLD_SIZE, LOCAL_RANK).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = timedelta(days=1)
"""How long a rank waits for the others: one may compute a shard meanwhile. One that ended is noticed at once."""
LOOK_UP = timedelta(seconds=1)
"""How often a waiting rank looks whether another has told of a failure."""
FAILURE = "failure"


class RankFailedError(RuntimeError):
    """Another rank ended, so that this one cannot go on; the message says which and why."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """The processes that share a job, seen from one of them.

    Parameters
    ----------
    rank : int, default 0
        This process's number.
    size : int, default 1
        How many there are. With 1 nothing is ever exchanged, and `torch.distributed` is not started.
    device : torch.device, default cpu
        Where tensors are exchanged.

    Examples
    --------
    >>> with Ranks.from_environment() as ranks:
    ...     (ranks.rank, ranks.size, ranks.total(5))
    (0, 1, 5)
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _store: dist.Store | None = field(default=None, repr=False)

    @classmethod
    def from_environment(cls, device: str | torch.device = "cpu") -> Ranks:
        """The ranks that torchrun started, or this process alone where it was started without.

        Parameters
        ----------
        device : str or torch.device, default "cpu"
            "cpu" exchanges by gloo. "cuda" by NCCL, and each rank takes the GPU of its number on its machine
            (`Ranks.device`).

        Returns
        -------
        Ranks
            To be used as a context (``with``): leaving it says goodbye to the others, or tells them the error.

        Raises
        ------
        ValueError
            The environment names a number of ranks but not which this is, or fewer GPUs than ranks.
        """
        device = torch.device(device)
        size = _number("WORLD_SIZE", 1)
        if size == 1:
            return cls(device=device)
        missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise ValueError(
                f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set: start the ranks by "
                f"`torchrun --nproc-per-node={size} -m …`, or unset WORLD_SIZE to run alone."
            )
        if device.type == "cuda":
            own, there = _number("LOCAL_RANK", 0), torch.cuda.device_count()
            if own >= there:
                raise ValueError(
                    f"rank {_number('RANK', 0)} needs GPU {own} of a machine that has {there}: start no more ranks "
                    "a machine than it has GPUs (--nproc-per-node), or ask for --device cpu."
                )
            device = torch.device("cuda", own)
            torch.cuda.set_device(device)
        store, rank, size = next(dist.rendezvous("env://", timeout=timedelta(minutes=5)))
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("collectives", store),
            rank=rank,
            world_size=size,
            timeout=PATIENCE,
        )
        return cls(rank, size, device, dist.PrefixStore("ranks", store))

    def __enter__(self) -> Ranks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.size == 1:
            return
        if error is not None:
            self._tell_failure(error)
        if error is None or self.device.type == "cpu":
            # NCCL would wait here for ranks that wait for this one: torchrun ends them when this process has ended
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which alone writes what all have in common."""
        return self.rank == 0

    def share(self, n: int) -> int:
        """How many of the first `n` rows of a batch are this rank's.

        Examples
        --------
        >>> [Ranks(rank, 3).share(7) for rank in range(3)]
        [3, 2, 2]
        """
        return len(range(self.rank, n, self.size))

    def split(self, rows: Tensor) -> Tensor:
        """The rows of this rank, of a batch that all ranks have: row i is rank (i mod size)'s.

        Examples
        --------
        >>> Ranks(1, 2).split(torch.arange(5)).tolist()
        [1, 3]
        """
        return rows if self.size == 1 else rows[self.rank :: self.size]

    def joined(self, rows: Tensor) -> Tensor:
        """The reverse of `split`: the whole batch, in its order, on every rank."""
        if self.size == 1:
            return rows
        parts = self.gathered(rows)
        whole = rows.new_empty((sum(map(len, parts)), *rows.shape[1:]))
        for rank, part in enumerate(parts):
            whole[rank :: self.size] = part
        return whole

    def gathered(self, rows: Tensor) -> list[Tensor]:
        """Every rank's tensor, in the ranks' order; the first dimension (the number of rows) may differ."""
        if self.size == 1:
            return [rows]
        counts = [int(count) for count in self._all(torch.tensor([len(rows)]))]
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        if padded.numel() == 0:
            return [padded[:count] for count in counts]
        return [part[:count].to(rows.device) for part, count in zip(self._all(padded), counts, strict=True)]

    def total(self, number: int) -> int:
        """The sum of every rank's number."""
        return number if self.size == 1 else sum(int(part) for part in self._all(torch.tensor([number])))

    def least(self, number: float) -> float:
        """The smallest of every rank's number."""
        if self.size == 1:
            return number
        return min(float(part) for part in self._all(torch.tensor([number], dtype=torch.float64)))

    def add_up_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor, of the same shape on every rank, by the sum over ranks; the same bits on each."""
        if self.size == 1:
            return tensor
        # an encoder's gradient lies latent by latent: its transpose is the contiguous one
        view = tensor.t() if tensor.ndim == 2 and not tensor.is_contiguous() else tensor
        exchanged = view.to(self.device).contiguous()
        self._collective(partial(dist.all_reduce, exchanged))
        if exchanged.data_ptr() != view.data_ptr():
            view.copy_(exchanged)
        return tensor

    def told(self, fact: Any) -> list[Any]:
        """What each rank says, in the ranks' order: any value that JSON holds."""
        if self.size == 1:
            return [fact]
        said = bytearray(json.dumps(fact).encode())
        parts = self.gathered(torch.frombuffer(said, dtype=torch.uint8))
        return [json.loads(part.numpy().tobytes()) for part in parts]

    def from_first(self, fact: Any) -> Any:
        """What rank 0 says; what the others give is not looked at."""
        return self.told(fact if self.first else None)[0]

    def tensors_from_first(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rank 0's tensors on every rank's `device`; what the others give is not looked at."""
        if self.size == 1:
            return tensors
        kinds = {name: [str(part.dtype), list(part.shape)] for name, part in tensors.items()}
        received = {}
        for name, (dtype, shape) in self.from_first(kinds).items():
            if self.first:
                part = tensors[name].detach().to(self.device).contiguous()
            else:
                part = torch.empty(
                    shape, dtype=getattr(torch, dtype.removeprefix("torch.")), device=self.device
                )
            self._collective(partial(dist.broadcast, part, src=0))
            received[name] = part
        return received

    def require_same(self, what: str, facts: dict[str, Any]) -> None:
        """Raise ValueError, on every rank, if the ranks were given different facts; the message names them."""
        said = self.told(facts)
        for rank, other in enumerate(said):
            differing = [name for name in said[0] if other.get(name) != said[0][name]]
            if differing:
                raise ValueError(
                    f"all ranks must do the same {what}, but rank {rank} differs from rank 0 in "
                    + "; ".join(f"{name}: {other.get(name)!r}, not {said[0][name]!r}" for name in differing)
                    + "."
                )

    def _all(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor of one shape."""
        own = tensor.to(self.device).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        self._collective(partial(dist.all_gather, parts, own))
        return parts

    def _collective(self, exchange: Callable[..., Any]) -> None:
        # NCCL's are ordered on the GPU and not waited for; torchrun ends those whose partner is gone
        work = exchange(async_op=self.device.type == "cpu")
        while work is not None:
            # asked before waiting: work that ends between a wait that was too short and this question has not failed
            ended = work.is_completed()
            try:
                work.wait(LOOK_UP)
                return
            except RuntimeError as error:
                # not done yet, or never to be done
                reason = self._failure()
                if reason is None and not ended:
                    continue
                reason = reason or "another rank ended without a word (killed?)"
                raise RankFailedError(f"{reason}; rank {self.rank} stops too.") from error

    def _failure(self) -> str | None:
        with contextlib.suppress(RuntimeError):
            if self._store is not None and self._store.check([FAILURE]):
                return str(self._store.get(FAILURE).decode())
        return None

    def _tell_failure(self, error: BaseException) -> None:
        # the first to fail says why; those that fail because of it have nothing to add
        with contextlib.suppress(RuntimeError):
            if self._store is not None and not isinstance(error, RankFailedError):
                said = f"rank {self.rank} failed: {type(error).__name__}: {error}"
                self._store.compare_set(FAILURE, "", said)


ALONE = Ranks()
"""One process by itself, the default wherever ranks are taken."""


def _number(variable: str, default: int) -> int:
    value = os.environ.get(variable, "")
    if not value:
        return default
    if not value.isdecimal():
        raise ValueError(f"the environment variable {variable} must be a number, got {value!r}.")
    return int(value)
