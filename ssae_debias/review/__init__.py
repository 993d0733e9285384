"""Reviewing: a report served to the browser beside it, so that decisions are saved as they are made.

A report opened from disk keeps a person's decisions in the browser and offers them as a download. Served from here
it writes them to `decisions.json` beside the report, which `ssae-debias run --decisions` and
`SSAEDebiaser.set_decisions` take. The server answers this machine only, and only to whoever has the address that it
printed. Nothing here needs PyTorch.
"""

from ssae_debias.review.keeping import DecisionFile
from ssae_debias.review.listing import Listed, Listing, read_listing
from ssae_debias.review.server import Review, open_review

__all__ = ["DecisionFile", "Listed", "Listing", "Review", "open_review", "read_listing"]
