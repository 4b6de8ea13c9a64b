"""Compile networks for H100s, without one, and compare with what the compiler made before.

    python -m tests.gpu_compile            # compare with tests/golden/gpu_compile
    python -m tests.gpu_compile --update   # after a change that is meant to be there

Compiles the training step and the evaluation of a batch of each network, in bfloat16, for one
device and for eight, and compares the number of operations of each kind exactly, and bytes and
memory within 2 percent. It needs the extra aot, no GPU, and minutes.
"""

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

from configs import alexnet, vgg_a, vgg_d, vgg_e
from deepconv.config import recipe
from deepconv.exceptions import UserError
from deepconv.plan import compiler

GOLDEN = Path(__file__).parent / "golden" / "gpu_compile"
CLASSES, IMAGES = 1000, 1_281_167
# Of each network, the config and the images of a batch on one device.
NETWORKS = {
    "alexnet": (alexnet, 128),
    "vgg_a": (vgg_a, 32),
    "vgg_d": (vgg_d, 32),
    "vgg_e": (vgg_e, 32),
}
DEVICES = (1, 8)
TOLERANCE = 0.02


def measured(name, devices):
    """Return `{step: what was compiled}` of a network."""
    module, images = NETWORKS[name]
    config = recipe.stages(module.get_config())[-1].config
    config.model.dtype = "bfloat16"
    config.train.batch_size = config.evaluation.batch_size = images * devices
    steps = compiler.compile_steps(
        config, classes=CLASSES, images=IMAGES, kind="h100", devices=devices
    )
    return {step: summary(compiled) for step, compiled in steps.items()}


def summary(compiled):
    """Return the figures of a compiled step that are compared."""
    operations = {}
    for each in compiled.program.operations:
        of_kind = operations.setdefault(each.kind, {"count": 0, "flops": 0, "bytes": 0})
        of_kind["count"] += each.times
        of_kind["flops"] += each.times * each.flops
        of_kind["bytes"] += each.times * each.bytes
    return {
        "memory": compiled.memory._asdict(),
        "operations": dict(sorted(operations.items())),
        "collectives": [
            {
                "kind": each.kind,
                "count": each.times,
                "bytes": each.bytes,
                "gradients_after_count": each.gradients_after,
            }
            for each in compiled.program.collectives
        ],
    }


def differences(before, now, where=""):
    """Yield a line for every figure that has changed; what is no count may change by 2 percent."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            yield from differences(before.get(key), now.get(key), f"{where} {key}".strip())
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for number, (old, new) in enumerate(zip(before, now, strict=True), start=1):
            yield from differences(old, new, f"{where} {number}")
    elif before != now and not (
        isinstance(before, int)
        and isinstance(now, int)
        and not where.endswith("count")
        and abs(now - before) <= TOLERANCE * before
    ):
        change = f" ({now / before - 1:+.1%})" if isinstance(before, int) and before and now else ""
        yield f"{where}: {_told(before)} -> {_told(now)}{change}"


def _told(value):
    if value is None:
        return "nothing"
    return f"{value:,}" if isinstance(value, int) else json.dumps(value)


def main():
    """Compile, and compare or update; the exit status is 1 if something has changed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--update", action="store_true", help="store what was compiled")
    parser.add_argument("networks", nargs="*", help=f"of {', '.join(NETWORKS)}; by default all")
    given = parser.parse_args()
    names = given.networks or list(NETWORKS)
    if unknown := [name for name in names if name not in NETWORKS]:
        parser.error(f"unknown network {unknown[0]}; one of {', '.join(NETWORKS)}")
    jax, changed = importlib.metadata.version("jax"), False
    for name in names:
        try:
            now = {f"{count} x h100": measured(name, count) for count in DEVICES}
        except UserError as error:
            sys.exit(f"gpu_compile: {error}")
        path = GOLDEN / f"{name}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        lines = list(differences(before["compiled"], now)) if before else ["nothing was stored"]
        changed = changed or bool(lines)
        print(f"{name}: {'as before' if not lines else f'{len(lines)} differences'}", flush=True)
        for line in lines:
            print(f"  {line}")
        if lines and before and before["jax"] != jax:
            print(f"  compiled with jax {jax}, before with {before['jax']}")
        if given.update:
            path.write_text(json.dumps({"jax": jax, "compiled": now}, indent=1) + "\n")
    if changed and not given.update:
        sys.exit(
            "the compiler makes something else; python -m tests.gpu_compile --update stores it"
        )


if __name__ == "__main__":
    main()
