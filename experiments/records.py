"""What is kept of the runs of the claims: a small JSON file for each, under docs/results.

    path = path_of(Path("docs/results"), "depth", 0.125, "B", seed=0)
    write(path, record_of(...))
    by_seed = read(Path("docs/results"), "depth", 0.125, conditions)["B"]

A file is named after its claim, width, condition and seed. It has a digest of the condition: of
every setting that determines the run, and of the run that it starts from. A file whose condition
has changed since is refused, so results of different conditions are never mixed.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deepconv import atomic
from deepconv.config.identity import fixed_settings
from deepconv.config.schema import default
from deepconv.exceptions import UserError
from deepconv.run import log
from deepconv.run.files import RunFolder
from experiments.comparison import Condition, slug

Record = dict[str, Any]
ROOT = Path("docs/results")


def digest_of(condition: Condition, conditions: Sequence[Condition]) -> str:
    """Return a hash of what determines a condition's runs, apart from the seed.

    It is of the settings that are not the default ones, so that a new key, which has its default in
    every condition, changes no digest. The place of a folder of pictures is left out: it is another
    one on every machine.

    Args:
      condition: the condition.
      conditions: those of its claim, with the one that it starts from.
    """
    config = copy.deepcopy(condition.config)
    config.seed = 0
    if config.dataset.name.startswith("folder:"):
        config.dataset.name = "folder"
    usual = fixed_settings(default())
    settings = {k: v for k, v in fixed_settings(config).items() if v != usual.get(k)}
    text = json.dumps(settings, sort_keys=True)
    if condition.source is not None:
        (source,) = (other for other in conditions if other.label == condition.source)
        text += digest_of(source, conditions)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def path_of(root: Path, claim: str, width: float, label: str, seed: int) -> Path:
    """Return the file of a run."""
    return root / claim / f"width_{width:g}" / f"{slug(label)}_seed{seed}.json"


def widths(root: Path, claim: str) -> list[float]:
    """Return the widths of which a claim has results, in ascending order."""
    folders = (root / claim).glob("width_*")
    return sorted(float(folder.name.removeprefix("width_")) for folder in folders)


def known(path: Path, digest: str) -> bool:
    """Return whether a run has been recorded.

    Raises:
      UserError: if its file is of another condition.
    """
    if not path.exists():
        return False
    found = json.loads(path.read_text())["digest"]
    if found != digest:
        raise UserError(
            f"{path} is of a condition with other settings (digest {found}, now {digest}): restore "
            "the settings, rename the condition, or delete the file to run it anew"
        )
    return True


def read(
    root: Path, claim: str, width: float, conditions: Sequence[Condition]
) -> dict[str, dict[int, Record]]:
    """Return every condition's records by seed, in ascending order.

    Raises:
      UserError: if a file is of another condition.
    """
    found: dict[str, dict[int, Record]] = {}
    for condition in conditions:
        digest = digest_of(condition, conditions)
        paths = path_of(root, claim, width, condition.label, 0).parent.glob(
            f"{slug(condition.label)}_seed*.json"
        )
        records = [json.loads(path.read_text()) for path in paths if known(path, digest)]
        found[condition.label] = {
            record["seed"]: record for record in sorted(records, key=lambda r: r["seed"])
        }
    return found


def write(path: Path, record: Record) -> None:
    """Write a record, its fractions to six digits."""
    atomic.write_json(path, _rounded(record))


def of_run(folder: Path) -> Record:
    """Return what a run's folder says of it: errors by epoch, last, best, versions.

    `errors` has a row for each evaluation: its epoch, the top-1 error on held-out images, and the
    mean error of the training batches since the evaluation before, each before its update. A run
    that diverged has the evaluations before that, and neither a last nor a best one.
    """
    files = RunFolder(folder)
    classes = len(json.loads(files.class_names.read_text()))
    rows = log.read_metrics(files.metrics)
    config = json.loads(files.config.read_text())
    record: Record = {
        "chance": 1 - 1 / classes,
        "errors": _errors(rows),
        "learning_rate_drops": [
            row["epoch"] for row in rows if row.get("name") == "learning_rate_drop"
        ],
        "last": None,
        "best": None,
        "dataset": config["dataset"]["name"].partition(":")[0],
    }
    if files.result.exists():
        result = json.loads(files.result.read_text())
        kept = ("last", "best", "parameters", "protocol", "steps", "epochs", "seconds", "devices")
        record |= {key: result[key] for key in (*kept, "versions", "git_revision")}
        del record["versions"]["platform"]  # the machine's; `devices` says what matters
    return record


def _errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"epoch": [], "top1_error": [], "training_error": []}
    step, images, wrong = 0, 0, 0.0
    for row in rows:
        if row["kind"] == "train":
            # A row has the mean over the updates since the row before it.
            images += row["step"] - step
            wrong += (row["step"] - step) * row["top1_error"]
            step = row["step"]
        elif row["kind"] == "eval":
            found["epoch"].append(row["epoch"])
            found["top1_error"].append(row["top1_error"])
            found["training_error"].append(wrong / images)
            images, wrong = 0, 0.0
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
