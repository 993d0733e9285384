"""Concepts in a corpus: where they are, planting them, and how well a unit of a dictionary finds them.

The measure itself is `ssae_debias.metrics.concept_recall`; here are its parts.
"""

from ssae_debias.metrics.concepts.concept import Concept
from ssae_debias.metrics.concepts.planting import plant

__all__ = ["Concept", "plant"]
