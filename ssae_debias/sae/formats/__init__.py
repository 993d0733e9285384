"""SAEs on disk: ours, and those that others have released, one file a format.

`load_sae` finds a file's format out and brings it to a `SparseAutoencoder` on raw activations; `load_release`
reads a whole release of one dictionary a site; `save_sae` writes SAELens-format directories, and `push_sae` and
`push_saes` bring them to the Hugging Face hub. Files are data: nothing is executed, and sizes, shapes, types and
values are checked before they are used (`tensors`).
"""

from ssae_debias.sae.formats.hub import local_path
from ssae_debias.sae.formats.loading import is_sae, load_sae
from ssae_debias.sae.formats.pushing import push_sae, push_saes
from ssae_debias.sae.formats.release import load_release, release_folder, release_sites
from ssae_debias.sae.formats.saving import save_sae

__all__ = [
    "is_sae",
    "load_release",
    "load_sae",
    "local_path",
    "push_sae",
    "push_saes",
    "release_folder",
    "release_sites",
    "save_sae",
]
