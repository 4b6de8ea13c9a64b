"""Take off what training programs wrap around a PyTorch network's names.

unwrapped = unwrap(["model.features.module.0.weight", "loss.weight"])
unwrapped.names  # {"model.features.module.0.weight": "features.0.weight"}
unwrapped.left  # ("loss.weight",)
"""

from collections.abc import Iterable
from typing import NamedTuple

from deepconv.exceptions import UserError

# Modules that wrap another one, at any depth: DataParallel, torch.compile and FSDP.
_TRANSPARENT = {"module", "_orig_mod", "_fsdp_wrapped_module"}
# The first part of the names of all networks that can be imported.
_TRUNK = "features."


class Unwrapped(NamedTuple):
    """Names without their wrappers.

    Attributes:
      names: the network's own name of each of its tensors, by the name in the file.
      left: names in the file of tensors that do not belong to the network.
    """

    names: dict[str, str]
    left: tuple[str, ...]


def unwrap(names: Iterable[str]) -> Unwrapped:
    """Return names as the network alone would have them.

    Wrappers' parts, such as `module`, are dropped wherever they are. A prefix in front of
    `features.`, such as the `model.` of Lightning, is dropped too, and tensors without it are left.

    Raises:
      UserError: if there are several such prefixes, or two tensors have the same name afterwards.
    """
    plain = {name: _without_wrappers(name) for name in names}
    prefixes = {prefix for name in plain.values() if (prefix := _prefix(name)) is not None}
    if "" not in prefixes and len(prefixes) > 1:
        listed = ", ".join(sorted(prefixes))
        raise UserError(f"it holds several networks, {listed}: save the state dict of one of them")
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    found = {
        name: short.removeprefix(prefix)
        for name, short in plain.items()
        if short.startswith(prefix)
    }
    seen: dict[str, str] = {}
    for name, short in found.items():
        if short in seen:
            raise UserError(f"{seen[short]} and {name} are both {short} without their wrappers")
        seen[short] = name
    return Unwrapped(found, tuple(name for name in plain if name not in found))


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _TRANSPARENT)


def _prefix(name: str) -> str | None:
    """Return what stands before `features.`; None if the name has no such part."""
    if name.startswith(_TRUNK):
        return ""
    before, found, _ = name.partition(f".{_TRUNK}")
    return f"{before}." if found else None
