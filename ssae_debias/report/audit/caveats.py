"""What an audit leaves open, as far as its figures show it.

The audit's own notes come first on the page; these here follow from any run's figures and are never left out: small groups,
one seed, an attribute still read, groups that only words tell, data in which the label tells the attribute.
"""

from __future__ import annotations

from ssae_debias.report.audit.content import AuditContent, Variant
from ssae_debias.report.audit.measures import competitors, proposal_of, start_of
from ssae_debias.report.caveats import LEAK_MARGIN, small_group
from ssae_debias.report.wording import percent

# A label that tells the attribute this far above chance: a latent for the one can carry the other.
ENTANGLED = 0.1


def audit_caveats(content: AuditContent) -> tuple[str, ...]:
    r"""Sentences on what is not known, to stand beside the audit's own notes.

    Examples
    --------
    >>> from ssae_debias.report.audit import example_audit_content
    >>> audit_caveats(example_audit_content())[0].replace("\u202f", " ")
    'The smallest group, nurse/M, has 99 texts: its accuracy is known to about ± 8.1 points.'
    """
    shown = proposal_of(content) or start_of(content)
    said = small_group(shown.groups or {})
    said += _without_intervals(content)
    if content.groups_from == "words" and shown.groups:
        said.append(
            f"Groups are told by words: a text in which no word for {content.attribute} stands, or one that "
            "means somebody else, is in no group or in a wrong one."
        )
    said.append(f"One seed was run ({content.seed}): how the result varies from seed to seed is not known.")
    said += _leak(content)
    said += _entangled(content)
    said += _picked(content)
    return tuple(said)


def _without_intervals(content: AuditContent) -> list[str]:
    variants: list[Variant] = [
        variant for variant in (start_of(content), proposal_of(content)) if variant is not None
    ]
    if all(variant.accuracy.has_interval for variant in variants):
        return []
    return ["Some figures come without intervals; no difference is claimed from those."]


def _leak(content: AuditContent) -> list[str]:
    if proposal_of(content) is None:
        return []
    left = [
        (estimate.mean, probe, leakage.site)
        for leakage in content.leakage
        for probe, estimate in (
            ("a linear probe", leakage.edited_linear),
            ("an MLP probe", leakage.edited_mlp),
        )
        if estimate
    ]
    if not left:
        return ["Whether the attribute can still be read from the edited activations was not measured."]
    level, probe, site = max(left)
    if level < content.chance + LEAK_MARGIN:
        return []
    return [
        f"The attribute is not gone: {probe} still reads it at {site} at {percent(level)} "
        f"(chance {percent(content.chance, 0)})."
    ]


def _entangled(content: AuditContent) -> list[str]:
    told = content.data.attribute_from_label
    if told is None or told.low < content.chance + ENTANGLED:
        return []
    return [
        f"In these data the label alone tells {content.attribute} at {percent(told.mean)}: what serves the "
        "label and what serves the attribute can be told apart only so far."
    ]


def _picked(content: AuditContent) -> list[str]:
    proposal = proposal_of(content)
    if proposal is None or not any(variant.role == "ours" for variant in competitors(content)):
        return []
    return [f"Several edits of ours are listed; the figures on top are those of the first, {proposal.name}."]
