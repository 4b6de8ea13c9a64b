"""The results as Markdown."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from experiments.gpu.schedule import DONE, Outcomes


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """Return a Markdown table; None is a dash, and a float has three significant digits."""
    lines = [columns, ["---"] * len(columns), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str | float | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value).replace("|", "\\|")


def text(
    machine: Mapping[str, Any],
    outcomes: Outcomes,
    sections: Mapping[str, Callable[[Mapping[str, Any]], str]],
) -> str:
    """Return the whole report.

    Args:
      machine: see `machine.measure`.
      outcomes: by section and case.
      sections: from a section's name to the function that formats its results.
    """
    versions = machine["versions"]
    reported = f" ({machine['nvidia_smi']})" if machine["nvidia_smi"] else ""
    lines = [f"# On {machine['device']}", ""]
    if machine["rehearsal"]:
        lines += ["**A rehearsal with narrow networks: no figure here is about a GPU.**", ""]
    lines += [
        f"{machine['device']}{reported}, {machine['cores']} CPU cores, jax {versions['jax']}, "
        f"Python {versions['python']}, deepconv at {machine['git_revision']}.",
    ]
    missing = []
    for name, format_results in sections.items():
        found = outcomes.get(name, {})
        if done := {case: one["result"] for case, one in found.items() if one["status"] == DONE}:
            lines += ["", f"## {name}", "", format_results(done)]
        missing += [
            (name, case, one["status"], one["why"])
            for case, one in found.items()
            if one["status"] != DONE
        ]
    if missing:
        rows = markdown(("section", "case", "status", "reason"), missing)
        lines += ["", "## Not measured", "", rows]
    return "\n".join(lines) + "\n"
