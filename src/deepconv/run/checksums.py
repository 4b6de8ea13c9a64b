"""Checksums of arrays, to detect corruption on disk or in a copy."""

import zlib
from typing import Any

import jax

from deepconv import parallel


def checksums(tree: Any) -> dict[str, int]:
    """Return the CRC-32 of the bytes of every leaf, by its path such as `params/fc6/kernel`.

    For an array distributed over several processes, it is that of the whole array.
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(
            parallel.to_host(leaf).tobytes()
        )
        for path, leaf in leaves
    }
