"""The model card of an exported model: what was edited, on what evidence, to what effect, and how it is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_TASKS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForCausalLM": "text-generation",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModel": "feature-extraction",
}
_LIMITS = (
    "What is removed is what was found. Carriers of the attribute that no flagged latent or erased direction "
    "responds to stay.",
    "Fine-tuning can bring the attribute back: measure again after it.",
    "The edit was made and measured on one kind of text; on another it may do less, or harm.",
)


@dataclass(frozen=True)
class Facts:
    """What a card tells beyond what the export itself knows.

    Attributes
    ----------
    base_model : str
        Hub id or name of the unedited model. A folder of this machine is told by its last part alone.
    license : str or None
        The base model's licence as the hub writes it (`apache-2.0`); an edited model inherits it.
    attribute : str
        What was removed, in words.
    evidence : str
        How latents were found: one or two sentences.
    latents : sequence of mapping
        One row a flagged latent; the keys of the first are the table's columns.
    residue : sequence of str
        What was done besides the latents.
    effect : sequence of mapping or None
        Rows of the before-and-after table. None: not measured, and the card says so.
    effect_of : str
        On what the effect was measured.
    limits : sequence of str
        Added to the limits that every edit has.

    Examples
    --------
    >>> Facts(base_model="me/model", attribute="gender").effect is None
    True
    """

    base_model: str = ""
    license: str | None = None
    attribute: str = ""
    evidence: str = ""
    latents: Sequence[Mapping[str, Any]] = ()
    residue: Sequence[str] = ()
    effect: Sequence[Mapping[str, Any]] | None = None
    effect_of: str = ""
    limits: Sequence[str] = field(default=())


def export_card(
    facts: Facts,
    *,
    auto_class: str,
    folded: Mapping[str, Sequence[str]],
    in_module: Mapping[str, str],
    max_difference: float | None,
    head_only: bool = False,
    repo_id: str | None = None,
) -> str:
    """The text of `README.md`.

    Parameters
    ----------
    facts : Facts
    auto_class : str
        The auto class that loads the exported head.
    folded : mapping of str to sequence of str
        By site, the weights that hold its edit.
    in_module : mapping of str to str
        By site, the kinds of the edits that run as code.
    max_difference : float or None
        Between the outputs of the live edited model and of the reloaded export; None if it was not measured.
    head_only : bool, default=False
        Whether an edit was folded into what the head reads.
    repo_id : str, optional
        Where it is loaded from; by default `"path/to/this/folder"`.

    Returns
    -------
    str
        Markdown with the hub's front matter. Everything that comes from data is escaped.

    Examples
    --------
    >>> text = export_card(
    ...     Facts("me/model"), auto_class="AutoModel", folded={"embed": ["embed.weight"]}, in_module={},
    ...     max_difference=None,
    ... )
    >>> "base_model: me/model" in text, "trust_remote_code" in text, "was not measured" in text
    (True, False, True)
    """
    name = _base_name(facts.base_model)
    sections = [
        _front_matter(facts, auto_class),
        f"# {_text(name) or 'A model'}, edited"
        + (f" against {_text(facts.attribute)}" if facts.attribute else ""),
        "An edited copy of a language model: what it represents of one attribute was found with specialised sparse "
        "autoencoders and is taken out of its activations. Made with ssae-debias, which is not needed to run it.",
        "## How to load\n\n" + _loading(auto_class, bool(in_module), repo_id),
        "## What was edited\n\n" + _edited(facts, folded, in_module, head_only),
        "## Effect\n\n" + _effect(facts),
        "## Is this the model that was measured?\n\n" + _equality(max_difference, bool(folded)),
        "## Limits\n\n" + "\n".join(f"- {_text(limit)}" for limit in (*_LIMITS, *facts.limits)),
    ]
    return "\n\n".join(sections) + "\n"


def _front_matter(facts: Facts, auto_class: str) -> str:
    lines = ["---", "library_name: transformers"]
    # the hub refuses a card whose base model is no repository
    if _HUB_ID.fullmatch(facts.base_model):
        lines.append(f"base_model: {facts.base_model}")
    if facts.license and _LICENSE.fullmatch(facts.license):
        lines.append(f"license: {facts.license}")
    if auto_class in _TASKS:
        lines.append(f"pipeline_tag: {_TASKS[auto_class]}")
    return "\n".join([*lines, "tags:", "- ssae-debias", "- fairness", "- model-editing", "---"])


def _loading(auto_class: str, trust: bool, repo_id: str | None) -> str:
    where = f'"{repo_id}"' if repo_id else '"path/to/this/folder"'
    extra = ", trust_remote_code=True" if trust else ""
    task = _TASKS.get(auto_class)
    code = [
        f"from transformers import {auto_class}, AutoTokenizer" + (", pipeline" if task else ""),
        "",
        f"tokenizer = AutoTokenizer.from_pretrained({where}{extra})",
        f"model = {auto_class}.from_pretrained({where}{extra})",
    ]
    if task:
        code.append(f'run = pipeline("{task}", model={where}{extra})')
    told = (
        "Part of the edit is code: `modeling_edited.py`, a short file that needs torch and transformers only. Read it, "
        "then load with `trust_remote_code=True`. Without it loading fails; it never gives the unedited model."
        if trust
        else "The whole edit is in the weights: it loads like any other model and runs no code of its own."
    )
    return f"{told}\n\n```python\n" + "\n".join(code) + "\n```"


def _edited(
    facts: Facts, folded: Mapping[str, Sequence[str]], in_module: Mapping[str, str], head_only: bool
) -> str:
    rows = [
        {"site": site, "how": "folded into weights", "where": ", ".join(weights)}
        for site, weights in folded.items()
    ] + [
        {"site": site, "how": "code that runs there", "where": f"modeling_edited.py: {kinds}"}
        for site, kinds in in_module.items()
    ]
    parts = [_table(rows) if rows else "Nothing: this is the unedited model."]
    if head_only:
        parts.append(
            "One edit was folded into what the head reads: the head's outputs are edited, the last hidden state that "
            "the model also returns is not, nor is the base model loaded without the head."
        )
    if facts.evidence:
        parts.append(_text(facts.evidence))
    if facts.residue:
        parts.append("Besides the latents:\n\n" + "\n".join(f"- {_text(line)}" for line in facts.residue))
    if facts.latents:
        parts.append("Flagged latents:\n\n" + _table(facts.latents))
    return "\n\n".join(parts)


def _effect(facts: Facts) -> str:
    if facts.effect is None:
        return "The effect was not measured when this card was written."
    told = f"{_text(facts.effect_of)}\n\n" if facts.effect_of else ""
    return told + (_table(facts.effect) if facts.effect else "The table is empty.")


def _equality(difference: float | None, folded: bool) -> str:
    if difference is None:
        return "The exported model was not compared with the live one."
    rounding = " (folding rounds once more, in the weights' dtype)" if folded else ""
    return (
        "After writing, the folder was loaded again and compared with the live edited model on a few texts, padded in "
        f"one batch: the largest difference of an output is {difference:.1e}{rounding}."
    )


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(rows[0])
    lines = [[_text(column) for column in columns], ["---"] * len(columns)]
    lines += [[_cell(row.get(column)) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1e-3 and value else f"{value:.3f}".rstrip("0").rstrip(".")
    return _text(str(value)) or "–"


def _text(words: str) -> str:
    """Words from data as plain Markdown: one line, nothing that acts."""
    plain = "".join(sign if sign.isprintable() else " " for sign in words)
    plain = " ".join(plain.split())
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#&~$!" else sign for sign in plain)


def _base_name(name: str) -> str:
    # a path of this machine is nobody's business
    return name if _HUB_ID.fullmatch(name) else re.split(r"[/\\]", name.rstrip("/\\"))[-1]
