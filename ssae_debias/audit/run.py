"""`audit`: from a classifier and data to a report.

    parts (fit, evaluation) → latents → variants → leakage → trade-off → data → what is unknown

Latents are found, rivals learned and heads refitted on the fit rows; every figure is read on the evaluation rows, of which
nothing else is made.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.pipeline import Pipeline
from tqdm.auto import tqdm

from ssae_debias.audit.array_latents import find_array_latents
from ssae_debias.audit.attributed import with_attribution
from ssae_debias.audit.classifiers import (
    Classifier,
    PipelineClassifier,
    TextClassifier,
    label_codes,
)
from ssae_debias.audit.data_facts import data_facts
from ssae_debias.audit.found import Found
from ssae_debias.audit.groups import Groups, find_groups
from ssae_debias.audit.kept_logits import KeptLogits
from ssae_debias.audit.leaks import leakage_by_site, readable_values
from ssae_debias.audit.report import AuditReport
from ssae_debias.audit.residues import residue_after
from ssae_debias.audit.settings import LatentSettings
from ssae_debias.audit.splitting import drawn_parts, given_parts
from ssae_debias.audit.text_latents import described, find_text_latents
from ssae_debias.audit.tradeoff import tradeoff
from ssae_debias.audit.unknown import what_is_unknown
from ssae_debias.audit.variants import Part, Variants, fitted_head
from ssae_debias.data import WordPairs, as_word_pairs, check_aligned
from ssae_debias.decisions import BY_A_PERSON
from ssae_debias.latents.association import comparable
from ssae_debias.latents.decisions import fingerprints
from ssae_debias.report.audit import AuditContent
from ssae_debias.report.facts import subdomain_facts, training_facts, versions

SHOWN_NOT_FLAGGED = 20


def audit(
    classifier: Any,
    inputs: Any,
    y: ArrayLike,
    *,
    attribute: str | os.PathLike[str] | WordPairs | list[tuple[str, str]] | None = "gender",
    sensitive_features: ArrayLike | pd.DataFrame | None = None,
    counterfactual: Any = None,
    part: ArrayLike | None = None,
    evaluation_size: float = 0.5,
    settings: LatentSettings | None = None,
    rivals: bool | Literal["words"] = True,
    decisions: Any = None,
    title: str | None = None,
    out: str | os.PathLike[str] | None = None,
    random_state: int = 0,
    verbose: int = 1,
) -> AuditReport:
    """Audit a classifier: who is served worse, does the attribute move decisions, where is it, what helps.

    Parameters
    ----------
    classifier : str, path, PreTrainedModel, sklearn Pipeline, or Classifier
        A Hugging Face text classifier by its folder or hub id or live; a fitted pipeline whose first step gives
        activations; or one of `TextClassifier`, `PipelineClassifier`, `ModuleClassifier` made by hand.
    inputs : sequence of str, array, DataFrame or tensor of length n
        What the classifier reads. For texts at least a few hundred.
    y : array-like of shape (n,)
        The right labels: names of the classifier's classes, or their indices.
    attribute : "gender", WordPairs, list of (str, str), path or None, default="gender"
        The attribute by its words, where inputs are texts; ignored where they are not.
    sensitive_features : array-like of shape (n,) or (n, k), optional
        Attribute values; None, NaN, NA and blank strings where not known. Several columns are crossed. Without them
        the words of a text stand in.
    counterfactual : inputs of length n, or callable, optional
        The same inputs with only the attribute changed, or a function that makes them. Texts are swapped by
        `attribute` on their own.
    part : array-like of shape (n,) of {"fit", "evaluation"}, optional
        Which rows latents are found on and which judge; best rows that the classifier was not trained on. Rows
        with another word are left out.
    evaluation_size : float, default=0.5
        Without `part`: share of rows that judge, drawn within (label, attribute) cells.
    settings : LatentSettings, optional
    rivals : bool or "words", default=True
        Whether the simple methods are judged too; they take about half of the time. `"words"`: only those that
        change what is read, which need nothing to be learned.
    decisions : path, mapping or Decisions, optional
        A person's decisions about latents, as the page downloads them.
    title : str, optional
    out : path, optional
        Folder for `report.html`, `results.json` and what a stopped audit goes on from; None keeps nothing.
    random_state : int, default=0
    verbose : int, default=1
        0 is silent.

    Returns
    -------
    AuditReport

    Raises
    ------
    TypeError, ValueError
        A classifier of another kind or without a trained head; labels that it does not know; lengths that differ;
        nothing that says what the attribute is.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> random = np.random.default_rng(0)
    >>> y, a = random.integers(2, size=(2, 600))
    >>> X = random.normal(0, 0.3, (600, 8)) + np.outer(y, np.eye(8)[0]) + np.outer(a, np.eye(8)[1])
    >>> model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X[y == a], y[y == a])
    >>> report = audit(model, X, y, attribute=None, sensitive_features=a, rivals=False, verbose=0,
    ...                settings=LatentSettings(train_tokens=50_000))
    >>> bool(report.edited.worst_group_accuracy.mean > report.original.worst_group_accuracy.mean)
    True
    """
    settings = settings or LatentSettings()
    audited = as_classifier(classifier, device=settings.device)
    given = audited.checked(inputs)
    check_aligned(inputs=given, y=y, sensitive_features=sensitive_features, part=part)
    codes = label_codes(audited, y, len(given))
    pairs = _pairs(attribute, given)
    other = _counterfactual(audited, given, counterfactual, pairs)
    groups = find_groups(given, sensitive_features, pairs)
    if groups.source == "none" and other is None:
        raise ValueError(
            "Nothing says what the attribute is: give attribute= (word pairs, for texts), sensitive_features= or "
            "counterfactual=."
        )
    # the latents of a text model answer to words: a counterfactual of another kind shows flips alone
    swapped = (pairs if isinstance(audited, TextClassifier) else other) is not None
    settings = _resolved(settings, audited, swapped)
    whole = Part(given, other, codes, groups)
    fit_rows, judged_rows = (
        drawn_parts(groups.cells(codes), evaluation_size, random_state) if part is None else given_parts(part)
    )
    fit, judged = whole.at(fit_rows), whole.at(judged_rows)
    home = None if out is None else Path(out) / "work"
    say = tqdm.write if verbose else (lambda _: None)

    say(f"Auditing {audited.name}: latents from {len(fit.y)} rows, judged on {len(judged.y)}.")
    logits = KeptLogits(audited, home, max(verbose - 1, 0))
    found, debiaser = _find(audited, fit, pairs, settings, home, fit_rows, random_state, verbose)
    if decisions is not None:
        found = _overruled(found, debiaser, audited, decisions, fit, settings)
        ours = found.table[found.table["reason"].astype(str).str.startswith(BY_A_PERSON)]
        kept = int((ours["decision"] == "keep").sum())
        say(
            f"Decisions of a person: {kept} kept, {len(ours) - kept} ablated; {found.n_ablated} ablated in all."
        )
    if settings.refit and found.edits():
        head = fitted_head(logits, fit, found.edits(), random_state)
        found = replace(found, head=head)
    found = with_attribution(logits, fit, found, random_state=random_state, verbose=verbose)
    making = Variants(
        audited,
        fit,
        judged,
        found,
        pairs,
        logits,
        settings=settings,
        random_state=random_state,
        verbose=max(verbose - 1, 0),
    )
    variants = []
    for variant in making.all(rivals=rivals):
        variants.append(variant)
        say(f"  {variant.name}: {_told(variant)}")
    sites = audited.sites
    leakage = (
        leakage_by_site(
            logits,
            judged.inputs,
            judged.y,
            judged.groups.values,
            judged.groups.known,
            sites=sites,
            edits=found.edits(),
            random_state=random_state,
            verbose=verbose,
        )
        if judged.groups.known.any()
        else []
    )
    say(f"  leakage at {len(leakage)} sites")
    read = readable_values(judged.y, judged.groups.values, judged.groups.known)
    chance = 1 / max(2, len(read or groups.names))
    curve = tradeoff(found, judged, making.evaluation, logits, random_state=random_state)
    facts = data_facts(codes, groups, audited.classes, found, fit.groups, fit.y, values=read)
    if debiaser is not None and facts.concepts is not None:
        facts = replace(facts, concepts=described(debiaser, fit.inputs, facts.concepts))
    content = AuditContent(
        title=title or f"Audit of {audited.name}",
        classifier=audited.name,
        summary=_summary(fit, judged, found, settings, pairs),
        variants=variants,
        attribute=_called(pairs, sensitive_features),
        groups_from="words" if groups.source == "words" else "labels",
        leakage=leakage,
        chance=chance,
        tradeoff=curve,
        latents=_shown(found),
        data=facts,
        unknown=what_is_unknown(
            variants=variants,
            y=judged.y,
            groups=judged.groups,
            fit_y=fit.y,
            fit_groups=fit.groups,
            found=found,
            leakage=leakage,
            chance=chance,
        ),
        sets={"fit rows": len(fit.y), "evaluation rows": len(judged.y)},
        seed=random_state,
        settings={name: value for name, value in vars(settings).items() if not _long(value)},
        versions=versions(),
        subdomain=None if debiaser is None else subdomain_facts(debiaser.subdomain_),
        training=training_facts({site: sae.history_ for site, sae in found.saes.items()}),
        saes=fingerprints(found.saes),
    )
    report = AuditReport(content, audited, found, debiaser)
    if out is not None:
        say(f"Report: {report.save(out)}")
    return report


def as_classifier(classifier: Any, *, device: str = "cpu") -> Classifier:
    """A classifier as an audit sees it; see `audit`.

    Raises
    ------
    TypeError
        It is of no kind that can be audited.
    """
    if isinstance(classifier, Pipeline):
        return PipelineClassifier(classifier)
    if isinstance(classifier, str | os.PathLike) or hasattr(classifier, "base_model_prefix"):
        return TextClassifier(classifier, device=device)
    if all(
        hasattr(classifier, name) for name in ("logits", "decisions", "tokens", "classes", "sites", "checked")
    ):
        audited: Classifier = classifier
        return audited
    raise TypeError(
        f"Cannot audit a {type(classifier).__name__}: give the folder or hub id of a Hugging Face text classifier, a live "
        "one, a fitted sklearn Pipeline whose first step gives activations, or ModuleClassifier(module, site, "
        "classes=…) for any other torch module."
    )


def _pairs(attribute: Any, inputs: Any) -> WordPairs | None:
    texts = isinstance(inputs, list) and len(inputs) > 0 and isinstance(inputs[0], str)
    return None if attribute is None or not texts else as_word_pairs(attribute)


def _counterfactual(classifier: Classifier, inputs: Any, counterfactual: Any, pairs: WordPairs | None) -> Any:
    if counterfactual is None:
        return None if pairs is None else [pairs.swap(text) for text in inputs]
    other = classifier.checked(counterfactual(inputs) if callable(counterfactual) else counterfactual)
    if np.shape(other)[:1] != (len(inputs),):
        raise ValueError(f"counterfactual holds {len(other)} rows, the inputs {len(inputs)}: one for each.")
    return other


def _resolved(settings: LatentSettings, classifier: Classifier, counterfactual: bool) -> LatentSettings:
    """The settings with all that depends on the classifier and the data decided."""
    inside = isinstance(classifier, TextClassifier)
    flag = "counterfactual" if counterfactual else "association"
    return replace(
        settings,
        flag=flag if settings.flag == "auto" else settings.flag,
        realign=not inside if settings.realign is None else settings.realign,
        erase=not inside if settings.erase is None else settings.erase,
    )


def _called(pairs: WordPairs | None, sensitive_features: Any) -> str:
    """What the attribute is called: as its words are, or as its columns."""
    if pairs is not None and pairs.name != "custom":
        return pairs.name
    names = getattr(sensitive_features, "columns", [getattr(sensitive_features, "name", None)])
    named = [name for name in names if isinstance(name, str) and name]
    return " & ".join(named) or "the attribute"


def _find(
    classifier: Classifier,
    fit: Part,
    pairs: WordPairs | None,
    settings: LatentSettings,
    home: Path | None,
    numbers: NDArray[np.int64],
    random_state: int,
    verbose: int,
) -> tuple[Found, Any]:
    if isinstance(classifier, TextClassifier):
        if pairs is None and not comparable(fit.groups.values[fit.groups.known], fit.y[fit.groups.known]):
            raise ValueError(
                "Among the rows that latents are found on, no label holds two values of the attribute, so nothing tells "
                "the attribute's latents from the task's: give word pairs with attribute=, or rows where the two differ."
            )
        return find_text_latents(
            classifier,
            fit.inputs,
            fit.y,
            settings=settings,
            pairs=pairs,
            attribute=_given_attribute(fit.groups),
            home=home,
            random_state=random_state,
            verbose=verbose,
        )
    sites = classifier.sites
    if not (isinstance(settings.sites, str) and settings.sites == "auto"):
        unknown = [site for site in settings.sites if site not in sites]
        if unknown:
            raise ValueError(f"The classifier has no site {', '.join(unknown)}; it has {', '.join(sites)}.")
        sites = tuple(site for site in sites if site in settings.sites)
    attribute, known = fit.groups.told()
    found = find_array_latents(
        classifier,
        fit.inputs,
        fit.y,
        sites=sites,
        settings=settings,
        attribute=attribute,
        known=known,
        counterfactual=fit.counterfactual,
        side=_side(fit),
        numbers=numbers,
        home=home,
        random_state=random_state,
        verbose=verbose,
    )
    return found, None


def _given_attribute(groups: Groups) -> NDArray[Any] | None:
    """The attribute as the debiaser takes it: None where it is not known, nothing where only words tell it."""
    if groups.told_by != "labels":
        return None
    values = groups.values.astype(object)
    values[~groups.known] = None
    return values


def _side(fit: Part) -> NDArray[np.int64] | None:
    """Which way each counterfactual goes: by words, or by two-valued labels; None where neither tells."""
    if fit.groups.side.any():
        return fit.groups.side
    if len(fit.groups.names) == 2:
        return np.where(fit.groups.known, np.where(fit.groups.values == fit.groups.names[1], 1, -1), 0)
    return None


def _overruled(
    found: Found, debiaser: Any, classifier: Classifier, decisions: Any, fit: Part, settings: LatentSettings
) -> Found:
    """A person's decisions, and what follows the latents learned anew for them."""
    if debiaser is not None:
        debiaser.set_decisions(decisions, fit.inputs, fit.y, sensitive_features=_given_attribute(fit.groups))
        return replace(found, table=debiaser.flagged_, residue=debiaser.residue_)
    found = found.decided(decisions)
    attribute, known = fit.groups.told()
    residue = residue_after(
        classifier,
        fit.inputs,
        fit.y,
        found.latent_edits(),
        site=found.residue_site,
        attribute=attribute,
        known=known,
        realign=bool(settings.realign),
        erase=bool(settings.erase),
    )
    return replace(found, residue=residue)


def _shown(found: Found) -> pd.DataFrame:
    """The latents of the page: to be ablated, and the strongest of each site that are not."""
    table = found.table
    ablated = table["decision"] == "ablate"
    others = table[~ablated].groupby("site", sort=False).head(SHOWN_NOT_FLAGGED)
    decided = table["reason"].astype(str).str.startswith("decided by a person")
    rows = table[ablated | decided | table.index.isin(others.index)].copy()
    keys = zip(rows["site"], rows["latent"], strict=True)
    rows["top_texts"] = [found.examples.get(key, []) for key in keys]
    return rows.reset_index(drop=True)


def _summary(
    fit: Part, judged: Part, found: Found, settings: LatentSettings, pairs: WordPairs | None
) -> list[str]:
    how = {
        "counterfactual": "by their response when only the attribute changes",
        "association": "by their association with the attribute within each label",
        "both": "by their response to the attribute's change or their association with it",
    }[settings.flag]
    done = {
        "zero": "set to zero",
        "mean": "set to their mean",
        "clamp": "held at their mean where they are active",
        "project": "projected out",
    }[settings.edit]
    said = [
        f"Sparse autoencoders were trained at {', '.join(found.saes)} on {len(fit.y)} rows; "
        f"{found.n_ablated or 'no'} latents were flagged {how}."
    ]
    if found.n_ablated:
        said.append(f"They are {done} inside the classifier.")
    if found.n_ablated and "realignment" in found.residue:
        said.append(f"What that moves by accident is moved back at {found.residue_site} (realignment).")
    if "erasure" in found.residue:
        said.append(_erased(fit.groups, found, pairs))
    if found.head is not None:
        said.append("Then its last layer was fitted again, rows of every label and side counting alike.")
    return [*said, f"All figures are from {len(judged.y)} other rows."]


def _erased(groups: Groups, found: Found, pairs: WordPairs | None) -> str:
    """What was erased, and who told it: words or labels."""
    rows = int(groups.told()[1].sum())
    what = f"the attribute's values apart ({', '.join(groups.names)})"
    who = f"{rows} rows whose attribute is given say which is which"
    if groups.told_by == "words" and pairs is not None:
        one, other = pairs.pairs[0]
        what = f"texts with more {one}-words from texts with more {other}-words"
        who = f"the words of {rows} rows say which is which, and no attribute label was used"
    alone = "" if found.n_ablated else " That is the whole edit: no latent has a part in it."
    return f"At {found.residue_site} what still tells {what}, within each label, is erased: {who}.{alone}"


def _told(variant: Any) -> str:
    parts = [f"accuracy {variant.accuracy.mean:.3f}"]
    if variant.worst_group_accuracy is not None:
        parts.append(f"worst group {variant.worst_group_accuracy.mean:.3f}")
    if variant.flips is not None:
        parts.append(f"flips {variant.flips['rate'].mean:.3f}")
    return ", ".join(parts)


def _long(value: Any) -> bool:
    return not isinstance(value, str | int | float | bool | tuple | None)
