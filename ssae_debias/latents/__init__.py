"""Latents: what is known about each, which to flag, and what a flagged one looks like."""

from ssae_debias.latents.association import association
from ssae_debias.latents.attribution import Decision, ModelDecision, ProbeDecision, attribute_decision
from ssae_debias.latents.counterfactual import counterfactual_response
from ssae_debias.latents.description import LatentDescription, describe_latents
from ssae_debias.latents.dictionary import Dictionary, Neurons
from ssae_debias.latents.evidence import COLUMNS, evidence_table
from ssae_debias.latents.flagging import RULES, FlagRule, overrule
from ssae_debias.latents.pooling import PooledLatents, pool_latents
from ssae_debias.latents.slicing import activation_mass, largest, slice_latents

__all__ = [
    "COLUMNS",
    "RULES",
    "Decision",
    "Dictionary",
    "FlagRule",
    "LatentDescription",
    "ModelDecision",
    "Neurons",
    "PooledLatents",
    "ProbeDecision",
    "activation_mass",
    "association",
    "attribute_decision",
    "counterfactual_response",
    "describe_latents",
    "evidence_table",
    "largest",
    "overrule",
    "pool_latents",
    "slice_latents",
]
