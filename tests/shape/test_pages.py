"""The documents are complete: what a program can meet is on the page that is for it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import domindex
import domindex.fleet
from domindex import errors
from domindex.prometheus import DomainCollector, FleetCollector
from domindex.testing import SimulatedHost
from tests.measure.figures import short
from tests.shape import public_api
from tests.shape.pages import DOCS, PAGES, PROJECT, README, calls, heading_slugs, read

ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, domindex.DomindexError)
]
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^):]+)\)")
WRITTEN = {
    *("Closed", "HostError", "NotControlDomain", "AccessDenied", "UnknownXen", "HypercallFailed"),
    *("StoreError", "StoreLost", "NotLive", "self.lost", "self._line.lost", "silent.lost"),
}
"""What makes an error of the host, or of the line. All but these come from the arguments."""


def test_the_readme_is_short() -> None:
    """A stranger reads it in five minutes."""
    assert len(README.split()) <= 1000


def test_the_readme_leads_to_every_page() -> None:
    """Itself or by one page between; the reference by its first page."""
    first = {target.partition("#")[0] for target in LINK.findall(README)}
    second = {
        (Path("docs") / target.partition("#")[0]).as_posix()
        for target in LINK.findall(read("index.md"))
    }
    for page in PAGES:
        path = page.relative_to(PROJECT).as_posix()
        if page.parent == DOCS and page.name not in ("index.md", "changelog.md", "security.md"):
            assert path in first | second, path


@pytest.mark.parametrize(
    "path",
    [PROJECT / "README.md", PROJECT / "SECURITY.md", PROJECT / "CONTRIBUTING.md", *PAGES],
    ids=lambda path: path.stem,
)
def test_links_lead_somewhere(path: Path) -> None:
    """To a file that is there, and in it to a heading."""
    for link in LINK.findall(path.read_text(encoding="utf-8")):
        target, _, anchor = link.partition("#")
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), link
        if anchor:
            assert anchor in heading_slugs(there.read_text(encoding="utf-8")), link


def test_every_page_is_in_a_list_of_pages() -> None:
    """Sphinx says so as well; here it is said without Sphinx."""
    listed: set[Path] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for tree in re.findall(r"```{toctree}\n(.*?)```", text, re.DOTALL):
            for line in tree.splitlines():
                if line and not line.startswith(":"):
                    listed.add(page.parent / f"{line}.md")
    assert listed == {*PAGES} - {DOCS / "index.md"}


def test_the_three_figures_are_those_that_were_measured() -> None:
    """`python -m tests.measure.figures.short` prints the README's table."""
    assert short.table() in README


def test_every_public_name_is_in_the_reference() -> None:
    """Of `domindex` by name; the pages of the other modules take all that these have."""
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md"))
    named = {
        name.removeprefix("domindex.")
        for name in re.findall(
            r"^\.\. (?:auto(?!module)\w+|py:data):: ([\w.]+)", text, re.MULTILINE
        )
    }
    by_name = {*domindex.__all__, *(f"fleet.{name}" for name in domindex.fleet.__all__)}
    # Those of an index, which are on a page of their own.
    assert named | {"direct"} == by_name - {"fleet.Lost", "fleet.Recovered", "fleet.Synced"}
    for module in set(public_api.MODULES) - {domindex, domindex.fleet}:
        assert re.search(rf"automodule:: {module.__name__}\n   :members:", text), module.__name__


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_on_its_page(kind: type[Exception]) -> None:
    """Which builtin catches it, its fields, whether waiting helps, and what to do."""
    page = read("errors.md")
    row = re.search(rf"^\| `{kind.__name__}` \| (.+?) \| ?(.*?) ?\| (.+) \|$", page, re.MULTILINE)
    assert row
    caught_by = [base for base in kind.__mro__ if base.__module__ == "builtins"]
    closest = {
        base.__name__
        for base in caught_by
        if not any(other is not base and issubclass(other, base) for other in caught_by)
    }
    assert set(re.findall(r"`(\w+)`", row[1])) == closest
    docs = "\n".join(
        inspect.cleandoc(base.__doc__ or "") for base in kind.__mro__ if base in ERRORS
    )
    fields = re.findall(r"^ {4}(\w+): ", docs, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row[2])) == set(fields)
    if kind is not domindex.DomindexError:
        assert f"**`{kind.__name__}`**: " in page


def test_the_tree_of_errors_is_the_real_one() -> None:
    """Each stands below its base."""
    tree = re.search(r"```text\n(DomindexError\n.*?)```", read("errors.md"), re.DOTALL)
    assert tree
    above: list[str] = []
    drawn: dict[str, str] = {}
    for line in tree[1].splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        above[depth:] = [line.strip()]
        drawn[line.strip()] = above[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__bases__[0].__name__ for kind in ERRORS}


def test_every_message_of_the_log_is_on_its_page() -> None:
    """With its level, word for word; those of a fleet with how a fleet is run."""
    page = read("logging.md") + read("fleet-operations.md")
    logged = [call for call in calls() if re.fullmatch(r"_?log\.\w+", call.function)]
    assert len(logged) > 8
    for function, parts, place in logged:
        word = function.partition(".")[2].upper()
        level = "ERROR" if word == "EXCEPTION" else word
        assert f"| `{''.join(parts)}` | {level} |" in page, place
    rows = {(call.function.removeprefix("_"), call.parts) for call in logged}
    assert len(re.findall(r" \| (?:INFO|WARNING|ERROR) \| ", page)) == len(rows)


def test_every_error_of_the_host_is_on_the_page_that_says_what_to_do() -> None:
    """By the longest piece of its text that is always the same."""
    page = " ".join((read("troubleshooting.md") + read("fleet-operations.md")).split())
    made = [call for call in calls() if call.function in WRITTEN]
    assert len(made) > 25
    for _, parts, place in made:
        text = max(parts, key=len).strip(" :;,")
        assert text in page, f"{place}: {text!r}"


def test_every_line_of_check_is_on_that_page() -> None:
    """By the word that begins it."""
    source = (PROJECT / "domindex" / "cli" / "checking.py").read_text(encoding="utf-8")
    words = set(re.findall(r'(?:attempt|_Finding)\("(\w+)"', source))
    assert len(words) >= 4
    for word in words:
        assert re.search(rf"^\| `{word}` \|", read("troubleshooting.md"), re.MULTILINE), word


def test_the_words_of_the_code_are_in_the_glossary() -> None:
    """Those that CONTRIBUTING.md sends there, and those that `help(domindex)` has."""
    contributing = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sent = re.search(r"The words (.*?) are defined in `docs/glossary.md`", contributing, re.DOTALL)
    assert sent
    words = re.findall(r"\*(\w+)\*", sent[1])
    words += re.findall(r"^(\w+): ", domindex.__doc__ or "", re.MULTILINE)
    assert len(words) >= 9
    for word in words:
        assert re.search(rf"^\*\*{word}\*\*: ", read("glossary.md"), re.MULTILINE), word


def test_the_files_of_the_picture_are_there() -> None:
    """In the page that says how it works."""
    named = set(re.findall(r"\b[\w/]+\.py\b", read("architecture.md")))
    assert len(named) >= 6
    for path in named:
        assert (PROJECT / "domindex" / path).exists(), path


def test_every_line_of_the_fleet_s_check_is_on_its_page() -> None:
    """And so is each state of a host, with what to do about it."""
    source = (PROJECT / "domindex" / "cli" / "fleet" / "checking.py").read_text(encoding="utf-8")
    words = set(re.findall(r'_Finding\("(\w+)"', source))
    assert len(words) >= 8
    rows = re.findall(r"^\| `(\w+)` \|", read("fleet-operations.md"), re.MULTILINE)
    assert words | set(domindex.fleet.HostState) <= set(rows)


def test_every_metric_is_on_its_page() -> None:
    """Under the name that Prometheus sees."""
    registry = CollectorRegistry()
    with SimulatedHost() as host, host.connect() as index:
        index.subscribe(lambda event: None, name="listener")
        registry.register(DomainCollector(index))
        with domindex.fleet.of({"xen1": index}) as fleet:
            registry.register(FleetCollector(fleet))
            names = {sample.name for family in registry.collect() for sample in family.samples}
    assert len(names) > 40
    for name in names:
        assert f"`{name}`" in read("metrics.md"), name
    assert set(re.findall(r"`(domindex_\w+)`", read("metrics.md"))) == names


def test_every_event_is_on_its_page() -> None:
    """With its fields."""
    page = read("events.md")
    for kind in domindex.Event.__args__:
        row = re.search(rf"^\| `{kind.__name__}` \| (.*) \|", page, re.MULTILINE)
        assert row, kind
        for field in kind.__match_args__:
            assert f"`{field}`" in row[1], (kind, field)


def test_nobody_is_told_to_install_what_is_not_there() -> None:
    """The name is not on the package index yet."""
    files = [
        PROJECT / "README.md",
        *PAGES,
        *PROJECT.glob("domindex/*.py"),
        *PROJECT.glob("examples/*"),
    ]
    for path in files:
        if path.is_file():
            assert "pip install domindex" not in path.read_text(encoding="utf-8"), path


def test_the_recording_asks_nothing_of_the_network() -> None:
    """No font, no script. What it shows is tested in test_docs.py."""
    drawn = read("recording.svg")
    assert "url(" not in drawn.replace("url(#recording-", "")
    assert "<script" not in drawn
