"""Results on disk, keyed by all that they depend on, so that an audit that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray

from ssae_debias.audit.classifiers import Classifier, pooled
from ssae_debias.edit import Edit, edits_digest
from ssae_debias.files import DamagedFileError, folder_aside, read_manifest, write_manifest

RECENT = 4
"""Results in memory where no folder keeps them: those of a state on inputs and counterfactuals, and of one before it."""


def kept_array(home: Path | None, kind: str, facts: str, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
    """An array, from disk where it was computed before.

    Parameters
    ----------
    home : Path or None
        Folder that keeps arrays; None computes each time.
    kind : str
        What it is, as a folder's name.
    facts : str
        All that it depends on.
    compute : callable

    Warns
    -----
    UserWarning
        What lies there is damaged; it is computed again.

    Examples
    --------
    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> kept_array(home, "sums", "of 2", lambda: np.ones(2)).tolist()
    [1.0, 1.0]
    >>> kept_array(home, "sums", "of 2", lambda: 1 / 0).tolist()  # read, not computed
    [1.0, 1.0]
    """
    if home is None:
        return compute()
    folder = home / kind / hashlib.sha256(facts.encode()).hexdigest()[:24]
    if folder.is_dir():
        try:
            read_manifest(folder, kind)
            return np.load(folder / "array.npy", allow_pickle=False)
        except (DamagedFileError, FileNotFoundError) as error:
            warnings.warn(f"Computed again: {error}", stacklevel=2)
    array = compute()
    with folder_aside(folder) as aside:
        np.save(aside / "array.npy", array)
        write_manifest(aside, kind)
    return array


class KeptLogits:
    """A classifier's logits and pooled activations under edits, from disk where they were computed before.

    Parameters
    ----------
    classifier : Classifier
        Its fingerprint is taken once, now: weights that change later are not noticed.
    home : Path or None
        Folder that keeps them; None keeps the last few in memory, since a state's logits and the inputs of its head
        are asked for one after the other.
    verbose : int, default=0

    Warns
    -----
    UserWarning
        The classifier cannot be fingerprinted (a pipeline's step that cannot be pickled), so nothing is kept.

    Examples
    --------
    >>> from torch import nn
    >>> from ssae_debias.audit import ModuleClassifier
    >>> model = ModuleClassifier(nn.Sequential(nn.Identity(), nn.Linear(3, 2)), "0", classes=["no", "yes"])
    >>> KeptLogits(model, None)(np.zeros((4, 3), dtype="float32")).shape
    (4, 2)
    """

    def __init__(self, classifier: Classifier, home: Path | None, verbose: int = 0) -> None:
        self.classifier = classifier
        self.verbose = verbose
        self.home = home
        self._fingerprint = ""
        self._recent: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        if home is not None:
            try:
                self._fingerprint = classifier.fingerprint
            except Exception as error:  # whatever a foreign step's pickling raises
                warnings.warn(
                    f"{classifier.name} cannot be told from another classifier ({error}), so nothing is kept that a "
                    "stopped audit could go on from.",
                    stacklevel=2,
                )
                self.home = None

    def __call__(self, inputs: Any, edits: Mapping[str, Edit] | None = None) -> NDArray[np.float32]:
        """Logits, shape (n, n_classes)."""
        return self._decisions(inputs, edits)[:, : len(self.classifier.classes)]

    def head_inputs(self, inputs: Any, edits: Mapping[str, Edit] | None = None) -> NDArray[np.float32]:
        """What the last layer is given, shape (n, d); read in the pass that gives the logits."""
        return self._decisions(inputs, edits)[:, len(self.classifier.classes) :]

    def _decisions(self, inputs: Any, edits: Mapping[str, Edit] | None) -> NDArray[np.float32]:
        def compute() -> NDArray[np.float32]:
            return np.hstack(self.classifier.decisions(inputs, edits, verbose=self.verbose))

        return self._kept("decisions", inputs, edits, compute)

    def pooled(self, inputs: Any, site: str, edits: Mapping[str, Edit] | None = None) -> NDArray[np.float32]:
        """Mean activation of each input at a site, shape (n, d)."""
        return self._kept(
            "pooled",
            inputs,
            edits,
            lambda: pooled(self.classifier, inputs, [site], edits, verbose=self.verbose)[site],
            site,
        )

    def facts(self, inputs: Any, edits: Mapping[str, Edit] | None, *more: Any) -> str:
        """All that a result on some inputs depends on, for `kept_array`."""
        return f"{self._fingerprint} {joblib.hash(inputs)} {edits_digest(edits or {})} {more!r}"

    def _kept(
        self,
        kind: str,
        inputs: Any,
        edits: Mapping[str, Edit] | None,
        compute: Callable[[], NDArray[np.float32]],
        *more: str,
    ) -> NDArray[np.float32]:
        facts = self.facts(inputs, edits, *more)
        if self.home is not None:
            return kept_array(self.home, kind, facts, compute)
        if f"{kind} {facts}" not in self._recent:
            self._recent[f"{kind} {facts}"] = compute()
        while len(self._recent) > RECENT:
            self._recent.popitem(last=False)
        return self._recent[f"{kind} {facts}"]
