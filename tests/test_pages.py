"""The pages: their links, as GitHub follows them, and that the API reference has every module."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(p for p in ROOT.glob("docs/**/*.md") if "_build" not in p.parts)]
# The entry points, and packages whose only users are commands.
NOT_IN_THE_REFERENCE = {"__main__", "main", "commands", "configs", "benchmark", "prepare"}


def prose(page):
    """Return a page's text without its code."""
    return re.sub(r"(?ms)^\s*```.*?^\s*```|`[^`\n]*`", "", page.read_text())


def anchors(page):
    """Return the anchors that GitHub gives a page's headings."""
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text())
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link}: there is no such file"
        assert not anchor or anchor in anchors(target), f"{link}: there is no such heading"


def test_the_reference_has_every_public_module_once():
    source = ROOT / "src"
    modules = [path.relative_to(source).with_suffix("") for path in source.rglob("*.py")]
    public = {
        ".".join(module.parts)
        for module in modules
        if not NOT_IN_THE_REFERENCE & {*module.parts} and module.name != "__init__"
    }
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    described = re.findall(r"automodule:: (\S+)", pages)
    packages = {"deepconv", "deepconv.models"}  # with functions of their own
    assert sorted(described) == sorted(public | packages)
