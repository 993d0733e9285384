"""Latents: what is known about each, which to flag, and what a flagged one looks like."""

from ssae_debias.latents.association import association
from ssae_debias.latents.attribution import Decision, ModelDecision, ProbeDecision, attribute_decision
from ssae_debias.latents.counterfactual import counterfactual_response
from ssae_debias.latents.description import LatentDescription, describe_latents
from ssae_debias.latents.dictionary import Dictionary, Neurons
from ssae_debias.latents.evidence import COLUMNS, evidence_table
from ssae_debias.latents.flagging import RULES, FlagRule, overrule
from ssae_debias.latents.lens import separating_latents
from ssae_debias.latents.naming import NO_NAME, Namer, check_namer, name_latents
from ssae_debias.latents.nearest import Neighbour, nearest_latents
from ssae_debias.latents.pooling import PooledLatents, pool_latents
from ssae_debias.latents.prompting import LatentEvidence, naming_prompt
from ssae_debias.latents.slicing import activation_mass, largest, slice_latents

__all__ = [
    "COLUMNS",
    "NO_NAME",
    "RULES",
    "Decision",
    "Dictionary",
    "FlagRule",
    "LatentDescription",
    "LatentEvidence",
    "ModelDecision",
    "Namer",
    "Neighbour",
    "Neurons",
    "PooledLatents",
    "ProbeDecision",
    "activation_mass",
    "association",
    "attribute_decision",
    "check_namer",
    "counterfactual_response",
    "describe_latents",
    "evidence_table",
    "largest",
    "name_latents",
    "naming_prompt",
    "nearest_latents",
    "overrule",
    "pool_latents",
    "separating_latents",
    "slice_latents",
]
