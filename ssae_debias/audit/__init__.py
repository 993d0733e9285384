"""Audit a team's own classifier: who is served worse, why, what helps, and what cannot be known.

`audit` takes a Hugging Face text classifier, a scikit-learn pipeline or any PyTorch module, with its data, and gives
an `AuditReport`: figures with intervals beside the simple rivals, the latents behind them, and the edit.
"""

from ssae_debias.audit.classifiers import (
    Classifier,
    ModuleClassifier,
    PipelineClassifier,
    TextClassifier,
)
from ssae_debias.audit.report import AuditReport
from ssae_debias.audit.run import audit
from ssae_debias.audit.settings import LatentSettings

__all__ = [
    "AuditReport",
    "Classifier",
    "LatentSettings",
    "ModuleClassifier",
    "PipelineClassifier",
    "TextClassifier",
    "audit",
]
