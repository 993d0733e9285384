"""ssae-debias: find where a model represents a protected attribute, ablate it there, and prove the effect."""

__version__ = "0.1.0"
