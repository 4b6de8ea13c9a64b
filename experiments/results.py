"""Make the tables and figures of docs/results.md from the records of the runs.

    python -m experiments.results            # or: make results

The parts between `<!-- made by make results: NAME -->` and `<!-- end -->` are replaced: `summary`
is the table of all claims, and each claim has a part of its own. The figures are
docs/images/claim_<name>.png; each has a digest of the records that it was drawn from.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import PIL.Image
from absl import flags
from matplotlib.figure import Figure

from deepconv.commands import command_line
from deepconv.exceptions import UserError
from experiments import comparison, records
from experiments.claim import (
    BEST,
    LAST,
    TOLD,
    BySeed,
    Claim,
    Contrast,
    Outcome,
    Quantity,
    is_at_chance,
    last_error,
    outcome,
)
from experiments.claims import CLAIMS

DOCS = Path("docs")
_PART = re.compile(r"(<!-- made by make results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_DIGEST = "Source"  # the key of the PNG's metadata


def filled(text: str, root: Path) -> str:
    """Return the page with all of its made parts replaced by what the records say.

    Args:
      text: the page.
      root: the folder of the records.

    Raises:
      UserError: if a part has the name of no claim, or a claim that was run has no part.
    """
    names = {found[2] for found in _PART.finditer(text)}
    shown = [claim for name, claim in CLAIMS.items() if name in names]
    parts = {"summary": summary(shown, root)} | {claim.name: part(claim, root) for claim in shown}
    wanted = {"summary"} | {name for name in CLAIMS if records.widths(root, name)}
    if wrong := sorted(names - {*parts} | wanted - names):
        raise UserError(
            f"docs/results.md has a part that no claim makes, or lacks that of one: {wrong[0]}"
        )
    return _PART.sub(lambda found: f"{found[1]}\n{parts[found[2]]}\n{found[3]}", text)


def summary(claims: Sequence[Claim], root: Path) -> str:
    """Return a table with a row for each contrast of the claims, at each width that was run."""
    rows = []
    for claim in claims:
        for width in records.widths(root, claim.name) or [claim.width]:
            found = records.read(root, claim.name, width, claim.conditions(width))
            for contrast in claim.contrasts:
                result = outcome(contrast, found)
                at = "" if width == claim.width else f" (width {width:g})"
                rows.append(
                    (
                        contrast.statement + at,
                        contrast.paper,
                        _ours(contrast, result),
                        str(len(result.seeds)),
                        _verdict(contrast, result),
                        f"[{claim.name}](#{_anchor(claim.title)})",
                    )
                )
    return _markdown(("claim", "paper", "ours", "seeds", "verdict", "details"), rows)


def part(claim: Claim, root: Path) -> str:
    """Return a claim's command, its table of conditions and its figure."""
    texts = []
    for width in records.widths(root, claim.name):
        found = records.read(root, claim.name, width, claim.conditions(width))
        folder = records.path_of(Path("results"), claim.name, width, "", 0).parent
        seeds = sorted({seed for of in found.values() for seed in of})
        texts.append(
            f"Width {width:g}; each run's errors, versions and command are in [{folder}]({folder})."
            f"\n\n```sh\npython -m experiments.claims --claims={claim.name} --width={width:g} "
            f"--seeds={','.join(map(str, seeds))}\n```\n"
        )
        texts.append(conditions_table(claim, found))
        image = _image(claim, width)
        texts.append(f"\n![{claim.title}](images/{image})\n")
    return "\n".join(texts) or "Not run here.\n"


def conditions_table(claim: Claim, found: Mapping[str, BySeed]) -> str:
    """Return a row for each condition: the errors at the last step, the best, the claim's own."""
    columns = (
        "condition",
        "seeds",
        "top-1 error %, last step: mean and 95 % interval",
        "each seed",
        "best of the epochs, mean",
        "at chance",
        *(quantity.name for quantity in claim.columns),
    )
    rows = []
    for label, by_seed in found.items():
        runs = list(by_seed.values())
        if not runs:
            continue
        bests = [value for run in runs if (value := BEST.of(run)) is not None]
        rows.append(
            (
                label,
                str(len(runs)),
                _mean(LAST, runs),
                ", ".join(f"{last_error(run):.1f}" for run in runs),
                f"{comparison.interval(bests)[0]:.1f}",
                f"{sum(map(is_at_chance, runs))} of {len(runs)}",
                *(_each(quantity, runs) for quantity in claim.columns),
            )
        )
    return _markdown(columns, rows)


def figure_of(claim: Claim, found: Mapping[str, BySeed]) -> Figure:
    """Return a claim's own figure, or else the errors over the epochs."""
    some = {label: by_seed for label, by_seed in found.items() if by_seed}
    if claim.figure is not None:
        return claim.figure(some)
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for number, (label, by_seed) in enumerate(some.items()):
        for seed, record in by_seed.items():
            errors = record["errors"]
            percent = [100 * error for error in errors["top1_error"]]
            name = label if seed == min(by_seed) else None
            axes.plot(errors["epoch"], percent, color=f"C{number % 10}", label=name, lw=1.2)
    axes.set(xlabel="epoch", ylabel="top-1 error on held-out images, %", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return drawn


class Drawn(NamedTuple):
    """A figure: of which claim, from which records, and the digest of those."""

    claim: Claim
    found: Mapping[str, BySeed]
    digest: str


def figures(root: Path, images: Path) -> dict[Path, Drawn]:
    """Return every figure's path, and what it is drawn from."""
    wanted: dict[Path, Drawn] = {}
    for claim in CLAIMS.values():
        for width in records.widths(root, claim.name):
            found = records.read(root, claim.name, width, claim.conditions(width))
            if any(found.values()):
                text = json.dumps(found, sort_keys=True)
                digest = hashlib.sha256(text.encode()).hexdigest()[:12]
                wanted[images / _image(claim, width)] = Drawn(claim, found, digest)
    return wanted


def digest_of_figure(path: Path) -> str | None:
    """Return the digest of the records that a figure was drawn from; None if there is none."""
    if not path.exists():
        return None
    with PIL.Image.open(path) as image:
        found: str | None = image.info.get(_DIGEST)
    return found


def _image(claim: Claim, width: float) -> str:
    at = "" if width == claim.width else f"_width_{width:g}"
    return f"claim_{claim.name}{at}.png"


def _anchor(title: str) -> str:
    """Return the anchor that a heading has on a page."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _ours(contrast: Contrast, result: Outcome) -> str:
    if result.mean is None:
        return "-"
    sign, unit = ("", " times") if contrast.ratio else ("+", "")
    decimals = max(contrast.quantity.decimals, 1)

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:{sign}.{decimals}f}"

    interval = (
        "one seed" if result.low is None else f"{number(result.low)} to {number(result.high)}"
    )
    return f"{contrast.quantity.name}: {number(result.mean)}{unit} ({interval})"


def _verdict(contrast: Contrast, result: Outcome) -> str:
    if result.needed is None or result.verdict != TOLD:
        return result.verdict
    return f"{result.verdict}: {contrast.effect:g} points would take {result.needed} seeds"


def _mean(quantity: Quantity, runs: Sequence[records.Record]) -> str:
    values = [value for run in runs if (value := quantity.of(run)) is not None]
    mean, reach = comparison.interval(values)
    return f"{mean:.1f}" + ("" if reach is None else f" ± {reach:.1f}")


def _each(quantity: Quantity, runs: Sequence[records.Record]) -> str:
    values = map(quantity.of, runs)
    return ", ".join(
        "never" if value is None else f"{value:.{quantity.decimals}f}" for value in values
    )


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main(_: Sequence[str]) -> None:
    """Replace the made parts of the page, and draw the figures whose records have changed."""
    docs = Path(DOCS_FLAG.value)
    root, page = docs / "results", docs / "results.md"
    page.write_text(filled(page.read_text(), root))
    for path, (claim, found, digest) in figures(root, docs / "images").items():
        if digest_of_figure(path) != digest:
            figure_of(claim, found).savefig(path, dpi=100, metadata={_DIGEST: digest})
            print(path)


if __name__ == "__main__":
    DOCS_FLAG = flags.DEFINE_string("docs", str(DOCS), "The folder of results.md.")
    command_line.run(main)
