"""Estimators: the method with scikit-learn's habits, on texts and on arrays."""

from ssae_debias.estimators.activation_debiaser import ActivationDebiaser
from ssae_debias.estimators.effect import EffectReport
from ssae_debias.estimators.text_debiaser import SSAEDebiaser

__all__ = ["ActivationDebiaser", "EffectReport", "SSAEDebiaser"]
