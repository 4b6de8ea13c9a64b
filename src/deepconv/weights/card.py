"""The model card of a network: what it is, how it was trained and measured, how to use it.

text = model_card(net, results_of(folder), repo="me/flowers", license="apache-2.0")
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from deepconv import naming, tables
from deepconv.config.identity import fixed_settings
from deepconv.inference.model import Model
from deepconv.run.files import RunFolder

_INTERVAL = "_interval"
_MOST_CLASSES = 1000


def results_of(folder: Path) -> list[tuple[str, str, str, str]]:
    """Return what was measured of a run, or of a file with this folder beside it.

    Args:
      folder: its results are `result.json` and the `.json` files in `evaluation/`.

    Returns:
      Rows (protocol, measure, value and 95 % interval, images).
    """
    rows: list[tuple[str, str, str, str]] = []
    if (file := RunFolder(folder).result).exists():
        result = json.loads(file.read_text())
        for which in ("best", "last"):
            title = f"{which} checkpoint, {result['protocol']}, {result['dataset']}"
            rows += _rows(title, result[which])
    for file in sorted((folder / "evaluation").rglob("*.json")):
        result = json.loads(file.read_text())
        if isinstance(result, dict) and {"title", "images"} <= result.keys():
            rows += _rows(result["title"], result)
    return rows


def _rows(title: str, result: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for name, value in result.items():
        if not name.endswith(("_error", "iou", "mean_average_precision")) or value is None:
            continue
        text = f"{100 * value:.2f}"
        if between := result.get(f"{name.removesuffix('_error')}{_INTERVAL}"):
            text += f" ({100 * between[0]:.2f} to {100 * between[1]:.2f})"
        rows.append(
            (_without_folders(title), name.replace("_", " "), text, f"{result['images']:,}")
        )
    return rows


def model_card(
    model: Model, results: Sequence[tuple[str, str, str, str]], *, repo: str, license: str
) -> str:
    """Return the card in Markdown, with the hub's header in YAML.

    Args:
      model: the network.
      results: see `results_of`.
      repo: owner and name of the repository.
      license: an identifier of the hub's, such as "apache-2.0".
    """
    config = model.config
    network = config.model.name
    size = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    names = [naming.one_line(name) for name in model.labels]
    listed = ", ".join(names[:_MOST_CLASSES])
    mean = ", ".join(f"{value:.3f}" for value in model.colors.mean_rgb)
    header = {
        "license": license,
        "library_name": "deepconv",
        "pipeline_tag": "image-classification",
        "tags": ["deepconv", "image-classification", network],
    }
    # A YAML file may be written as JSON, which needs no rules for quotes.
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in header.items())
    measured = tables.table(("protocol", "measure", "% (95 % interval)", "images"), results)
    settings = "\n".join(
        f"{key} = {_without_folders(json.dumps(value))}"
        for key, value in sorted(fixed_settings(config).items())
    )
    trained = (
        f"Trained on {_without_folders(config.dataset.name)} for {model.step:,} updates.\n"
        f"\n## Config\n\n{_block(settings)}\n"
        if model.step
        else "Not trained by a run of deepconv's: see the file's metadata for its source.\n"
    )
    return (
        f"---\n{front}\n---\n\n"
        f"# {repo}\n\n"
        f"`{network}` with {size:,} parameters and {len(names):,} classes, for crops of "
        f"{model.network.crop} pixels of images rescaled to a shorter side of "
        f"{config.evaluation.scale}; mean RGB {mean}.\n\n"
        "```python\n"
        "import deepconv  # and huggingface_hub\n\n"
        f'net = deepconv.load_model("hf:{repo}")\n'
        'net.predict(["picture.jpg"])[0].best\n'
        "```\n\n"
        f"## Errors\n\n{_block(measured) if results else 'Not measured.'}\n\n"
        f"## Training\n\n{trained}\n"
        f"## Classes\n\n{listed}\n"
    )


def _block(text: str) -> str:
    return f"```\n{text}\n```"


def _without_folders(text: str) -> str:
    """Shorten absolute paths to their last part: the card is public, and they may name people."""
    return re.sub(r"/(?:[^/\s\"]+/)+(?=[^/\s\"])", "", text)
