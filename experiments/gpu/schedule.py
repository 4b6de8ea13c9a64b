"""Which cases are measured in the time there is, and which of them a second call repeats.

    carry_out(sections, outcomes, measure, keep)

Time that a section does not use goes to those after it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

# Of one case: its `status`, and its `result` or `why` there is none; `seconds`, if it was started.
Outcome = dict[str, Any]
# Outcomes by section and case.
Outcomes = dict[str, dict[str, Outcome]]

DONE, NO_MEMORY, NO_TIME = "done", "out of memory", "no time left"
SKIPPED, FAILED = "skipped", "failed"
# What a second call does not repeat.
FINAL = (DONE, NO_MEMORY)


class Section(NamedTuple):
    """Cases that share a part of the time.

    Attributes:
      name: name of the section.
      seconds: its share.
      least: seconds that must be left for a case to be started.
      cases: arguments of each case, by name; the most important first.
    """

    name: str
    seconds: float
    least: float
    cases: Mapping[str, Mapping[str, Any]]


def carry_out(
    sections: Sequence[Section],
    outcomes: Outcomes,
    measure: Callable[[str, str, Mapping[str, Any], float], Outcome],
    keep: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Measure every case that has no final outcome yet and for which there is time.

    Args:
      sections: in order.
      outcomes: of earlier calls; modified in place.
      measure: `(section, case, arguments, seconds) -> outcome`, within these seconds.
      keep: called after every case.
      clock: the time in seconds.
    """
    end = clock()
    for section in sections:
        end += section.seconds
        found = outcomes.setdefault(section.name, {})
        for case, arguments in section.cases.items():
            if found.get(case, {}).get("status") in FINAL:
                continue
            left = end - clock()
            if left >= section.least:
                found[case] = measure(section.name, case, arguments, left)
            else:
                found.setdefault(
                    case, {"status": NO_TIME, "why": f"{max(left, 0):.0f} s were left"}
                )
            keep()
