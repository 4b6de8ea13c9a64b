"""Time a config's own steps and PyTorch's, in turn, and compare them within each round.

    python -m experiments.bench_torch --config=configs/alexnet.py --batch=16 --json=alexnet.json

The flags are those of `deepconv benchmark`. PyTorch runs the same layers, batch, augmentation, loss
and SGD on one device: eager and compiled, contiguous and channels last. docs/performance.md
explains each figure. Needs the extra `torch`.
"""

import importlib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from deepconv import atomic
from deepconv.commands import benchmark, command_line
from deepconv.exceptions import UserError

if TYPE_CHECKING:  # see `main`
    from deepconv.benchmark.programs import Subject
    from deepconv.benchmark.timing import Contender

COMPARED = ("train", "forward")


def require_torch() -> None:
    """Raise `UserError` unless PyTorch is installed."""
    try:
        importlib.import_module("torch")
    except ImportError:
        raise UserError(
            "the comparison needs PyTorch, which is not installed: pip install -e '.[torch]'"
        ) from None


def require_compared(asked: Sequence[str]) -> None:
    """Raise `UserError` unless --what includes something that PyTorch also runs."""
    if not {*benchmark.things(asked)} & {*COMPARED}:
        raise UserError("PyTorch is compared on train and forward, but --what has neither")


def require_one(devices: int) -> None:
    """Raise `UserError` unless there is one device."""
    if devices > 1:
        raise UserError(
            f"PyTorch is compared on one device, but jax sees {devices}; make only one "
            "visible (CUDA_VISIBLE_DEVICES=0)"
        )


def fastest(lines: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the name of PyTorch's fastest line, by the median, for each thing it was compared on.

    Args:
      lines: lines of the result; PyTorch's are named "thing, mode".
    """
    return {
        thing: min(theirs, key=theirs.__getitem__)
        for thing in COMPARED
        if (
            theirs := {
                line["name"]: line["seconds"]["median"]
                for line in lines
                if line["name"].startswith(f"{thing}, ")
            }
        )
    }


def text(result: Mapping[str, Any]) -> str:
    """Return a line for each thing compared, and one for each mode that failed."""
    from deepconv.benchmark import report

    ratios = {line["name"]: line["ours_is_times_as_fast"] for line in result["lines"]}
    compared = [
        f"{thing}: ours is {report.times_as_fast(ratios[name])} times as fast as PyTorch's fastest "
        f"mode ({name.partition(', ')[2]}), within a round"
        for thing, name in result["fastest_of_torch"].items()
    ]
    failed = [f"not measured: {name}: {why}" for name, why in result["not_measured"].items()]
    return "\n".join([*compared, *failed])


def main(_: Sequence[str]) -> None:
    """Measure, print the table, and write the JSON file if requested."""
    require_compared(flags.FLAGS.what)
    path = command_line.output_file(flags.FLAGS, "json", ".json")
    # Both are read on first use. By default jax takes most of the GPU's memory, and torch.compile
    # reuses programs that earlier runs left on disk.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ.setdefault("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    require_torch()

    # Worker processes that decode images import this module too, and do not need jax.
    import jax

    from deepconv.benchmark import report, session
    from experiments import torch_peer

    require_one(jax.device_count())
    failures: dict[str, str] = {}

    def theirs(subject: "Subject", things: Sequence[str]) -> "dict[str, Contender]":
        params = jax.device_get(subject.functions.initial_state().params)
        device = torch_peer.use_device(session.cores())
        made, failed = torch_peer.contenders(subject, params, things, device)
        failures.update(failed)
        return made

    result = benchmark.measure(flags.FLAGS, theirs)
    result["fastest_of_torch"] = fastest(result["lines"])
    result["not_measured"] = failures
    result["versions"]["torch"] = importlib.metadata.version("torch")
    print(report.text(result))
    print(text(result))
    if path:
        atomic.write_json(path, result)


if __name__ == "__main__":
    benchmark.define_flags(flags.FLAGS)
    flags.adopt_module_key_flags(benchmark)  # so that --help lists them
    command_line.run(main)
