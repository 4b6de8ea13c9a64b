"""Checksums of arrays: what a disk or a copy has altered is noticed."""

import zlib
from typing import Any

import jax

from deepconv import parallel


def checksums(tree: Any) -> dict[str, int]:
    """Return the CRC-32 of the bytes of every leaf, by its path such as `params/fc6/kernel`.

    Whatever lies on the devices of several processes is the whole array's.
    """
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): zlib.crc32(
            parallel.to_host(leaf).tobytes()
        )
        for path, leaf in leaves
    }
