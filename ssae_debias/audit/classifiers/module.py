"""Any PyTorch module that classifies, read and edited at modules that it names."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm.auto import tqdm

from ssae_debias.activations import TokenBatch, resolve_site
from ssae_debias.audit.classifiers.inputs import written_rows
from ssae_debias.audit.heads import head_inputs_of, in_order, last_linear
from ssae_debias.edit import Edit


class ModuleClassifier:
    """A module from tensors to logits.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a batch (n, …) and returns logits (n, n_classes); put into eval mode.
    sites : str or sequence of str
        Modules to read and edit, by their paths in ``module.named_modules()``, in any order. What they return is
        (n, d), (n, tokens, d), or (n, d, height, width), whose pixels are its tokens.
    classes : sequence of str
        Names of the labels, in the order of the logits.
    columns : sequence of str, optional
        Names of the columns of a table's rows, for the report.
    name : str, optional
        What the report calls it; default: the class.
    batch_size : int, default=256

    Raises
    ------
    TypeError
        `module` is no torch.nn.Module.
    ValueError
        No site, one that the module lacks or that returns (n, d, length), or classes that are not two or more
        different names.

    Examples
    --------
    >>> module = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> classifier = ModuleClassifier(module, "1", classes=["no", "yes"])
    >>> classifier.logits(np.zeros((4, 3), dtype="float32")).shape
    (4, 2)
    """

    def __init__(
        self,
        module: nn.Module,
        sites: str | Sequence[str],
        *,
        classes: Sequence[str],
        columns: Sequence[str] | None = None,
        name: str | None = None,
        batch_size: int = 256,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}.")
        if len(set(classes)) < 2 or len(set(classes)) != len(classes):
            raise ValueError(f"classes are two or more different names, got {list(classes)!r}.")
        self.module = module.eval()
        paths = [sites] if isinstance(sites, str) else list(sites)
        if not paths:
            raise ValueError("Name at least one site: a path of module.named_modules().")
        found = [resolve_site(module, f"module:{path.removeprefix('module:')}") for path in paths]
        for site in found:
            if isinstance(site.module, nn.Conv1d | nn.ConvTranspose1d):
                raise ValueError(
                    f"{site.name} is a {type(site.module).__name__}, which returns (n, d, length), and vectors are read "
                    "from (n, length, d): name a module that transposes it, or one after pooling."
                )
        self._sites = {site.name: site for site in sorted(found, key=lambda site: site.order)}
        self._classes = tuple(str(value) for value in classes)
        self._columns = None if columns is None else list(columns)
        self._name = name or type(module).__name__
        self.batch_size = batch_size

    @property
    def name(self) -> str:
        """As given, or the module's class."""
        return self._name

    @property
    def classes(self) -> tuple[str, ...]:
        """As given."""
        return self._classes

    @property
    def sites(self) -> tuple[str, ...]:
        """`module:path` of each site, in forward order."""
        return tuple(self._sites)

    @property
    def fingerprint(self) -> str:
        """Of the weights, of what `print(module)` shows of the layers, and of the sites."""
        # weights alone cannot tell a ReLU from a GELU
        digest = hashlib.sha256(repr((repr(self.module), self.sites)).encode())
        for key, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            if tensor.numel():
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def checked(self, inputs: Any) -> Any:
        """An array, a tensor or a DataFrame of finite numbers, as an array (a DataFrame stays one).

        Raises
        ------
        ValueError
            No numbers, one dimension only, NaN or infinity.
        """
        if isinstance(inputs, pd.DataFrame):
            values, rows = inputs, inputs.to_numpy()
        else:
            values = inputs.detach().cpu().numpy() if isinstance(inputs, Tensor) else np.asarray(inputs)
            rows = values
        if rows.dtype.kind not in "fiub" or rows.ndim < 2:
            raise ValueError(
                f"The inputs of a module are numbers of shape (n, …); got {rows.dtype} of shape {rows.shape}. Give the "
                "tensors that the module takes, not texts."
            )
        if not np.isfinite(rows).all():
            raise ValueError("The inputs hold NaN or infinity: fill them as for the classifier itself.")
        return values

    def logits(
        self, inputs: Any, edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> NDArray[np.float32]:
        """What the module returns, shape (n, n_classes); of a single logit, that of the second label.

        Raises
        ------
        ValueError
            It returns something else, or NaN.
        """
        return self.decisions(inputs, edits, verbose=verbose)[0]

    @property
    def head(self) -> nn.Linear | None:
        """The last linear layer."""
        return last_linear(self.module, len(self.classes))

    def decisions(
        self, inputs: Any, edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Logits and what the last linear layer made them from, (n, n_classes) and (n, d); d is 0 without one."""
        seen: list[Tensor] = []
        with head_inputs_of(self.head, seen):
            found = [
                self._checked_logits(out)
                for _, out in self._passes(inputs, edits or {}, {}, "decisions", verbose)
            ]
        logits = np.concatenate(found) if found else np.zeros((0, len(self.classes)), dtype=np.float32)
        return logits, in_order(seen, np.arange(len(logits)), self.head, logits)

    def tokens(
        self, inputs: Any, sites: Sequence[str], edits: Mapping[str, Edit] | None = None, *, verbose: int = 0
    ) -> Iterator[TokenBatch]:
        """Every vector that a site returns for an input is a token of it."""
        seen: dict[str, Tensor] = {}
        for start, _ in self._passes(inputs, edits or {}, dict.fromkeys(sites, seen), "reading", verbose):
            counts = {site: x.shape[1] if x.ndim == 3 else 1 for site, x in seen.items()}
            n = len(next(iter(seen.values())))
            for each in dict.fromkeys(counts.values()):
                index = np.repeat(np.arange(start, start + n), each)
                yield TokenBatch(
                    index,
                    np.tile(np.arange(each), n),
                    np.zeros(len(index), dtype=np.int64),
                    {site: x.reshape(-1, x.shape[-1]) for site, x in seen.items() if counts[site] == each},
                )

    def written(self, inputs: Any, numbers: Sequence[int] | None = None) -> list[str]:
        """Each row with its columns' names; of images and the like its number and shape."""
        shown = inputs
        if self._columns is not None and not isinstance(inputs, pd.DataFrame) and np.ndim(inputs) == 2:
            shown = pd.DataFrame(np.asarray(inputs), columns=self._columns)
        return written_rows(shown, numbers)

    def _passes(
        self,
        inputs: Any,
        edits: Mapping[str, Edit],
        reads: Mapping[str, dict[str, Tensor]],
        desc: str,
        verbose: int,
    ) -> Iterator[tuple[int, Tensor]]:
        unknown = [site for site in (*edits, *reads) if site not in self._sites]
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} is not among the sites {', '.join(self.sites)} of this audit."
            )
        rows = inputs.to_numpy() if isinstance(inputs, pd.DataFrame) else inputs
        parameter = next(self.module.parameters(), torch.zeros(0))
        with ExitStack() as hooks, torch.no_grad():
            for site, place in self._sites.items():
                if site in edits:
                    hooks.enter_context(place.attach(_in_shape(edits[site].to(parameter.device))))
                if site in reads:
                    hooks.enter_context(place.attach(_noted(reads[site], site)))
            for start in tqdm(
                range(0, len(rows), self.batch_size), desc=desc, disable=not verbose, leave=False
            ):
                # a copy: a module may work in place on what it is given
                batch = torch.from_numpy(np.array(rows[start : start + self.batch_size]))
                batch = batch.to(parameter.dtype) if batch.is_floating_point() else batch
                yield start, self.module(batch.to(parameter.device))

    def _checked_logits(self, out: Any) -> NDArray[np.float32]:
        logits = out.logits if hasattr(out, "logits") else out
        if isinstance(logits, Tensor) and logits.ndim == 1:
            logits = logits[:, None]
        widths = (1, 2) if len(self.classes) == 2 else (len(self.classes),)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] not in widths:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ValueError(
                f"The module must return logits of shape (n, {len(self.classes)}), one for each of "
                f"{', '.join(self.classes)}; it returned {shape}."
            )
        found = logits.detach().float().cpu().numpy()
        if np.isnan(found).any():
            raise ValueError(
                f"The module returned NaN for {int(np.isnan(found).any(axis=1).sum())} of {len(found)} inputs of a "
                "batch: what it decides there is not known."
            )
        # one logit is that of the second class
        return np.column_stack([np.zeros_like(found), found]) if found.shape[1] == 1 else found


def _vectors(x: Tensor) -> Tensor:
    """(n, d) or (n, tokens, d), whatever a site returned."""
    if x.ndim == 4:
        x = x.flatten(2).transpose(1, 2)
    if x.ndim not in (2, 3):
        raise ValueError(
            f"A site returns (n, d), (n, tokens, d) or (n, d, height, width); this one returned {tuple(x.shape)}."
        )
    return x.detach().float().cpu()


def _in_shape(edit: Edit) -> Callable[[Tensor], Tensor]:
    """The edit of a site's vectors, given back in the shape that the site returned."""

    def apply(x: Tensor) -> Tensor:
        return edit(x.movedim(1, -1)).movedim(-1, 1) if x.ndim == 4 else edit(x)

    return apply


def _noted(seen: dict[str, Tensor], site: str) -> Callable[[Tensor], None]:
    def note(x: Tensor) -> None:
        seen[site] = _vectors(x)

    return note
