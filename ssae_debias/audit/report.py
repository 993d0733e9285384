"""`AuditReport`: what an audit found, and what can be done with it."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ssae_debias.audit.classifiers import Classifier
from ssae_debias.audit.found import Found
from ssae_debias.edit import Edit
from ssae_debias.files import write_json
from ssae_debias.report import Estimate
from ssae_debias.report.audit import AuditContent, Variant, format_audit_table, write_audit
from ssae_debias.report.audit.measures import proposal_of

if TYPE_CHECKING:
    from ssae_debias.estimators import SSAEDebiaser


@dataclass(frozen=True)
class AuditReport:
    """The result of `audit`.

    Attributes
    ----------
    content : AuditContent
        All figures, with intervals and group sizes; what the page shows.
    classifier : Classifier
    found : Found
        Latents with evidence and decisions, SAEs, and what is erased after them.
    debiaser : SSAEDebiaser or None
        For a text model: the fitted debiaser inside it, to overrule, save or export.

    Examples
    --------
    >>> from ssae_debias.audit import audit
    >>> report = audit("classifier/", texts, y, attribute="gender", out="audited/")  # doctest: +SKIP
    >>> report.original.worst_group_accuracy, report.edited.worst_group_accuracy  # doctest: +SKIP
    >>> report.export("edited/")  # doctest: +SKIP
    """

    content: AuditContent
    classifier: Classifier
    found: Found
    debiaser: SSAEDebiaser | None = None

    @property
    def original(self) -> Variant:
        """The classifier as it came."""
        return next(variant for variant in self.content.variants if variant.role == "start")

    @property
    def edited(self) -> Variant:
        """The classifier with the proposed edit."""
        # the first of ours is the proposal, on the page too
        return next(variant for variant in self.content.variants if variant.role == "ours")

    @property
    def edits(self) -> dict[str, Edit]:
        """The proposed edit of each site."""
        return self.found.edits()

    def to_frame(self) -> pd.DataFrame:
        """One row a variant: accuracies, worst group, disparities, flips, with interval bounds."""
        return pd.DataFrame([_row(variant) for variant in self.content.variants]).set_index("variant")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and names, ready for JSON; the latents' texts are left out."""
        content = {
            field.name: getattr(self.content, field.name) for field in dataclasses.fields(AuditContent)
        }
        latents = self.content.latents.drop(columns=["top_texts", "nearest"], errors="ignore")
        content["latents"] = latents.to_dict("records")
        content["data"] = {
            "counts": {str(k): v for k, v in self.content.data.counts.to_dict("index").items()},
            "attribute_from_label": self.content.data.attribute_from_label,
        }
        content.pop("subdomain")
        return dict(_plain(content))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write `report.html` and `results.json` into a folder.

        Parameters
        ----------
        path : path-like
            Made where it is not there; of what is in it only the two files are replaced.

        Returns
        -------
        Path
            The page.
        """
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "results.json", self.to_dict())
        return write_audit(folder / "report.html", self.content)

    def export(self, path: str | os.PathLike[str]) -> Any:
        """Write the edited text classifier as a directory that plain transformers loads.

        See `SSAEDebiaser.export`; the model card holds this audit's table.

        Raises
        ------
        TypeError
            The classifier is no Hugging Face model.
        """
        if self.debiaser is None:
            raise TypeError(
                f"{self.classifier.name} is no Hugging Face model: its edit is a function of activations. Save it with "
                "ssae_debias.edit.save_edits(path, report.edits), or use report.edited_classifier()."
            )
        exported = proposal_of(self.content)
        rows = [_card_row(variant, exported=variant is exported) for variant in self.content.variants]
        layer, head = getattr(self.classifier, "head", None), self.found.head
        if head is None or layer is None:
            return self.debiaser.export(path, report=rows)
        also = "The classifier's last layer was fitted again under the edit, rows of every label and side counting alike."
        with head.applied(layer):
            return self.debiaser.export(path, report=rows, also=[also])

    def edited_classifier(self) -> Callable[[Any], NDArray[np.float32]]:
        """A function from inputs to logits of the edited classifier, shape (n, n_classes)."""
        edits, head, classifier = self.edits, self.found.head, self.classifier

        def logits(inputs: Any) -> NDArray[np.float32]:
            own, x = classifier.decisions(classifier.checked(inputs), edits)
            return own if head is None else head.logits(x)

        return logits

    def __str__(self) -> str:
        return format_audit_table(self.content)


def _card_row(variant: Variant, *, exported: bool) -> dict[str, str]:
    """A row of a model card's table: few columns, intervals beside the figures; the exported model says that it is."""
    flips = None if variant.flips is None else variant.flips["rate"]
    return {
        "variant": f"{variant.name} (this model)" if exported else variant.name,
        "group labels": "needed" if variant.needs_group_labels else "none",
        "accuracy": _said(variant.accuracy),
        "balanced accuracy": _said(variant.balanced_accuracy),
        "worst group": f"{_said(variant.worst_group_accuracy)} {variant.worst_group or ''}".strip(),
        "flips": _said(flips),
    }


def _said(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.mean:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"


def _row(variant: Variant) -> dict[str, Any]:
    row: dict[str, Any] = {"variant": variant.name, "group_labels": variant.needs_group_labels}
    for name in ("accuracy", "balanced_accuracy", "worst_group_accuracy"):
        estimate = getattr(variant, name)
        row[name] = math.nan if estimate is None else estimate.mean
        if estimate is not None:
            row |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    row["worst_group"] = variant.worst_group
    flips = variant.flips
    row["flip_rate"] = math.nan if flips is None else flips["rate"].mean
    if flips is not None:
        row |= {"flip_rate_low": flips["rate"].low, "flip_rate_high": flips["rate"].high}
    row["demographic_parity_difference"] = variant.demographic_parity_difference
    row["equalized_odds_difference"] = variant.equalized_odds_difference
    return row


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
