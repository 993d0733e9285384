"""ssae-debias: find where a model represents a protected attribute, ablate it there, and prove the effect.

The two estimators are imported on first use, so that `import ssae_debias.metrics` needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ssae_debias.estimators import ActivationDebiaser, SSAEDebiaser

__version__ = "0.1.0"
__all__ = ["ActivationDebiaser", "SSAEDebiaser", "__version__"]


def __getattr__(name: str) -> Any:
    if name in ("ActivationDebiaser", "SSAEDebiaser"):
        from ssae_debias import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
