"""What tells one set of edits from another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from ssae_debias.edit.protocol import Edit


def edits_digest(edits: Mapping[str, Edit]) -> str:
    """Sha256 over the sites, kinds, settings and arrays of edits, in their order.

    Examples
    --------
    >>> edits_digest({})[:8]
    'e3b0c442'
    """
    digest = hashlib.sha256()
    for site, edit in edits.items():
        digest.update(json.dumps([site, edit.kind, edit.settings()]).encode())
        for name, tensor in sorted(edit.tensors().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()
