"""Run what is missing of the papers' claims, and record each run under docs/results.

    python -m experiments.claims --claims=initialization --seeds=0,1,2
    python -m experiments.claims --claims=depth --width=1    # full width, for a GPU

A run that has been recorded, here or elsewhere, is not repeated: copy its file, and it counts. One
that was interrupted is resumed from its folder in --workdir. `python -m experiments.results` makes
the tables and figures.
"""

import contextlib
import copy
import functools
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from deepconv.commands import command_line
from deepconv.exceptions import DivergenceError, UserError
from deepconv.run.files import RunFolder
from deepconv.training import loop
from experiments import (
    alexnet_parts,
    alexnet_presets,
    convergence,
    depth,
    finetune,
    initialization,
    jitter,
    lrn,
    records,
    relu,
    towers,
)
from experiments.claim import Claim, Run
from experiments.comparison import Condition, run_folder

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        initialization.CLAIM,
        depth.CLAIM,
        jitter.CLAIM,
        convergence.CLAIM,
        relu.CLAIM,
        relu.RATES_CLAIM,
        lrn.CLAIM,
        alexnet_parts.CLAIM,
        alexnet_parts.ON_IMAGENET,
        towers.CLAIM,
        alexnet_presets.CLAIM,
        finetune.CLAIM,
    )
}


def run(claim: Claim, width: float, seeds: Sequence[int], workdir: Path, out: Path) -> None:
    """Run and record what is missing of a claim.

    Args:
      claim: the claim.
      width: factor of the widths of its nets.
      seeds: of its runs.
      workdir: where the folders of the runs are.
      out: where the records are.
    """
    conditions = claim.conditions(width)
    root = workdir.absolute() / claim.name / f"width_{width:g}"
    for seed in seeds:
        for condition in conditions:
            digest = records.digest_of(condition, conditions)
            path = records.path_of(out, claim.name, width, condition.label, seed)
            if records.known(path, digest):
                continue
            record = {
                "claim": claim.name,
                "condition": condition.label,
                "width": width,
                "seed": seed,
                "digest": digest,
                "command": f"python -m experiments.claims --claims={claim.name} "
                f"--width={width:g} --seeds={seed}",
                **_trained_and_measured(claim, condition, conditions, root, seed),
            }
            records.write(path, record)


def _trained_and_measured(
    claim: Claim, condition: Condition, conditions: Sequence[Condition], root: Path, seed: int
) -> records.Record:
    other = functools.partial(_train, conditions, root, seed)
    folder = run_folder(root, condition.label, seed)
    try:
        other(condition.label)
    except DivergenceError as error:  # a result, not a failure
        return {"diverged": str(error).partition(" (")[0], "measured": {}, **records.of_run(folder)}
    config = copy.deepcopy(condition.config)
    config.seed = seed
    start = run_folder(root, condition.source, seed) if condition.source else None
    measured = claim.measure(Run(condition.label, config, folder, start, other))
    return {"diverged": None, "measured": measured, **records.of_run(folder)}


def _train(conditions: Sequence[Condition], root: Path, seed: int, label: str) -> Path:
    """Train a condition's run and those that it starts from, if they are not complete."""
    (condition,) = (c for c in conditions if c.label == label)
    folder = run_folder(root, label, seed)
    if RunFolder(folder).result.exists():
        return folder
    start = None
    if condition.source:
        start = run_folder(root, condition.source, seed)
        with contextlib.suppress(DivergenceError):  # its best parameters are from before
            _train(conditions, root, seed, condition.source)
    config = copy.deepcopy(condition.config)
    config.seed = seed
    loop.train(config, folder, start)
    return folder


def main(_: Sequence[str]) -> None:
    """Run what is missing of the claims that are named."""
    names = CLAIMS_FLAG.value
    if unknown := sorted({*names} - {*CLAIMS}):
        raise UserError(f"unknown --claims={unknown[0]}; choose from {', '.join(CLAIMS)}")
    if not all(seed.isdecimal() for seed in SEEDS.value):
        raise UserError(f"--seeds={','.join(SEEDS.value)} must be numbers, such as 0,1,2")
    seeds = list(map(int, SEEDS.value))
    for name in names:
        claim = CLAIMS[name]
        width = claim.width if WIDTH.value is None else WIDTH.value
        run(claim, width, seeds, Path(WORKDIR.value), Path(OUT.value))


if __name__ == "__main__":
    CLAIMS_FLAG = flags.DEFINE_list(
        "claims", None, f"Which claims: {', '.join(CLAIMS)}.", required=True
    )
    SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, such as 0,1,2.")
    WIDTH = flags.DEFINE_float(
        "width", None, "Factor of the nets' widths; by default what fits two cores.", lower_bound=0
    )
    WORKDIR = flags.DEFINE_string("workdir", "runs/claims", "Folder of all the runs.")
    OUT = flags.DEFINE_string("out", str(records.ROOT), "Folder of the records.")
    command_line.run(main)
