"""The classifiers that can be audited, behind one face."""

from ssae_debias.audit.classifiers.classifier import Classifier, label_codes, pooled, rows_of
from ssae_debias.audit.classifiers.module import ModuleClassifier
from ssae_debias.audit.classifiers.pipeline import PipelineClassifier
from ssae_debias.audit.classifiers.text import TextClassifier

__all__ = [
    "Classifier",
    "ModuleClassifier",
    "PipelineClassifier",
    "TextClassifier",
    "label_codes",
    "pooled",
    "rows_of",
]
