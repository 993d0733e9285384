"""Reading ahead: the next batch is fetched while the caller works on this one.

Disk and processor can work at the same time, but a plain loop has them take turns. Here a thread of its own takes
items from an iterable and keeps a few ready. Reading from disk and NumPy's and PyTorch's copying release Python's
lock, so that the thread costs the caller's computing little. One thread alone draws from the iterable: the order
is the iterable's own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """The iterable came to its end, or failed with an error."""

    error: BaseException | None = None


def prefetched(items: Iterable[T], *, ahead: int = 2) -> Iterator[T]:
    """The same items in the same order, fetched by a thread while the caller works.

    Parameters
    ----------
    items : iterable
        Only the thread touches it, from the first item that is asked for until the returned iterator ends.
    ahead : int, default=2
        Items that are fetched but not yet taken, at most: memory for so many is needed besides the caller's. One
        is enough if all take equally long; with two, a slow one in between (the first of a new file) delays nobody.

    Yields
    ------
    item
        An error of the iterable is raised where its next item would come. When the caller stops early (leaves the
        loop and drops or closes the iterator), the thread ends after the item that it is at.

    Raises
    ------
    ValueError
        `ahead` is below 1.

    Examples
    --------
    >>> list(prefetched(range(4)))
    [0, 1, 2, 3]
    """
    if ahead < 1:
        raise ValueError(f"ahead must be at least 1, got {ahead}.")
    return _prefetched(iter(items), ahead)


def _prefetched(items: Iterator[T], ahead: int) -> Iterator[T]:
    ready: SimpleQueue[T | _End] = SimpleQueue()
    room, stopped = threading.Semaphore(ahead), threading.Event()
    # a daemon: a loop that is never finished must not keep the program from ending
    thread = threading.Thread(
        target=_fetch, args=(items, ready, room, stopped), name="prefetching", daemon=True
    )
    thread.start()
    try:
        while not isinstance(item := ready.get(), _End):
            room.release()
            yield item
            # not held while the next is waited for
            del item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        room.release()
        # the garbage collector may close this iterator from any thread, even from that one
        if threading.current_thread() is not thread:
            thread.join()


def _fetch(
    items: Iterator[T], ready: SimpleQueue[T | _End], room: threading.Semaphore, stopped: threading.Event
) -> None:
    end = _End()
    try:
        while room.acquire() and not stopped.is_set():
            item = next(items, end)
            ready.put(item)
            if item is end:
                return
            del item
    except BaseException as error:
        ready.put(_End(error))
    finally:
        # a generator that is left half-way lets go of its files now
        if stopped.is_set() and hasattr(items, "close"):
            items.close()
