"""Edits: what is done to activations at a site, on plain arrays and inside the live model.

`edit_latents` turns an SAE and its flagged latents into an edit, a function from activations to activations
that holds only the flagged rows. `spliced` puts edits into a model for as long as a `with` block lasts.
"""

from ssae_debias.edit.affine import Affine
from ssae_debias.edit.composed import Composed, compose
from ssae_debias.edit.digest import edits_digest
from ssae_debias.edit.flagged import edit_flagged
from ssae_debias.edit.latent_edit import MODES, LatentEdit, edit_latents
from ssae_debias.edit.projection import Projection
from ssae_debias.edit.protocol import Edit
from ssae_debias.edit.saved import load_edits, save_edits
from ssae_debias.edit.splice import spliced

__all__ = [
    "MODES",
    "Affine",
    "Composed",
    "Edit",
    "LatentEdit",
    "Projection",
    "compose",
    "edit_flagged",
    "edit_latents",
    "edits_digest",
    "load_edits",
    "save_edits",
    "spliced",
]
