"""The result of a transfer as text: beside the paper's, by class, confusions, worst images; pure.

print(describe(result.about))
"""

from typing import Any

from deepconv import naming, tables

# Rows of each part but the classes of several labels; the JSON has more.
_ROWS = 10
# Best scores of an image that are printed.
_BEST = 3


def describe(result: dict[str, Any]) -> str:
    """Return a result as text.

    Args:
      result: the content of the JSON file, see `evaluate`.
    """
    return "\n\n".join(
        [
            _heading(result),
            _beside_the_papers(result),
            _classes(result),
            *([_confusions(result)] if "confusions" in result else []),
            _worst(result),
        ]
    )


def _heading(result: dict[str, Any]) -> str:
    count = len(result["splits"])
    values = ", ".join(f"{split['C']:g}" for split in result["splits"])
    lines = [
        naming.one_line(result["title"]),
        f"{result['train_images']:,} {result['counted']} to train on, {result['test_images']:,} to "
        "test with" + (f", {count} splits" if count > 1 else ""),
        f"{result['numbers']:,} numbers each; C={values}, chosen on a fifth of the training images",
        *(f"note: {note}" for note in result["notes"]),
    ]
    if result["left_out"]:
        lines.append(
            f"note: {result['left_out']} classes have no test image and are not in the mean"
        )
    return "\n".join(lines)


def _beside_the_papers(result: dict[str, Any]) -> str:
    rows = [(name, _percent(mean, deviation)) for name, mean, deviation in result["paper"]]
    ours = " & ".join(network["name"] for network in result["networks"])
    deviation = result["deviation"]
    own = _percent(100 * result["mean"], None if deviation is None else 100 * deviation)
    return tables.table(("", f"{result['metric']}, %"), [*rows, (f"here: {ours}", own)])


def _percent(mean: float, deviation: float | None) -> str:
    return f"{mean:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")


def _classes(result: dict[str, Any]) -> str:
    if "means" not in result:
        rows = [(row["name"], row["images"], 100 * row["recall"]) for row in result["classes"]]
        return tables.table(("worst classes", "images", "recall %"), rows[:_ROWS])
    means = result["means"]
    precisions = [
        (row["name"], row["images"], *(100 * row["average_precision"][rule] for rule in means))
        for row in result["classes"]
    ]
    return tables.table(
        ("class", "images", *(f"AP %, {rule}" for rule in means)),
        [*precisions, ("mean", None, *(100 * mean for mean in means.values()))],
    )


def _confusions(result: dict[str, Any]) -> str:
    rows = [(row["true"], row["predicted"], row["images"]) for row in result["confusions"]]
    return tables.table(("true class", "taken for", "images"), rows[:_ROWS])


def _worst(result: dict[str, Any]) -> str:
    rows = [
        (
            row["image"],
            ", ".join(row["true"]) or "none",
            *(f"{name} {score:.2f}" for name, score in row["best"][:_BEST]),
        )
        for row in result["worst"][:_ROWS]
    ]
    columns = max((len(row) - 2 for row in rows), default=0)
    return tables.table(("worst images", "true class", "best scores", *[""] * (columns - 1)), rows)
