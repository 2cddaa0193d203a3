"""What the documents promise is there: techniques, commands, files, fields, and examples that
run."""

import re
import shlex

import pytest

from lab import cli, paths, results, techniques
from lab.harness import reporters
from lab.harness.reporters import json_object
from lab.store.store import Store
from tests.recorded_runs import record

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [paths.ROOT / "README.md", *sorted((paths.ROOT / "docs").glob("*.md"))]


def commands(text: str) -> list[str]:
    """Every `python main.py …` of a document, without its comment and without places to fill in."""
    lines = re.findall(r"python main\.py ([^`\n]+)", text)
    commands = [line.partition("  #")[0].strip() for line in lines]
    return [command for command in commands if not re.search(r"…|(^|\s)[A-Z]+\b", command)]


@pytest.mark.parametrize(
    "technique", techniques.all_techniques(), ids=lambda technique: technique.slug
)
def test_every_technique_has_a_readme_line_and_a_page(technique):
    line = next(
        (line for line in README.splitlines() if line.startswith(f"| [`{technique.slug}`]")), None
    )
    assert line, f"README's table has no line for {technique.slug}"
    assert (paths.ROOT / re.search(r"\((pages/[^)]+)\)", line)[1]).is_file()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_understood(document):
    for command in commands(document.read_text(encoding="utf-8")):
        words = shlex.split(command)
        if words[0].startswith("--"):
            continue
        cli.resolve(words[0]).parser().parse_args([] if "--help" in words else words[1:])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_is_linked_exists(document):
    links = re.findall(r"\]\((?!http)([^)#]+)", document.read_text(encoding="utf-8"))
    assert [
        link
        for link in links
        if not link.endswith(".png") and not (document.parent / link).exists()
    ] == []


def test_every_field_of_the_json_is_documented(db):
    record(Store(), blocks=6)
    found = json_object.as_object(results.read("last"))
    text = (paths.ROOT / "docs" / "result-format.md").read_text(encoding="utf-8")
    fields = {*found, *found["arms"][0], *found["comparisons"][0], *found["verdict"]} - {"arms"}
    assert [name for name in fields if f"`{name}`" not in text] == []


def test_the_design_names_every_file_of_the_house_and_none_that_is_not_there():
    """A stranger finds a file by the map; a file that moves takes its line along."""
    design = (paths.ROOT / "docs" / "design.md").read_text()
    tree = design[design.index("## The tree") : design.index("## Where to go")]
    # What is found by lying there is named by README's and docs/reporters.md's tables.
    found = (techniques.__path__[0], reporters.__path__[0])
    files = [
        path
        for folder in ("lab", "pages/parts")
        for path in (paths.ROOT / folder).rglob("*.py")
        if not path.name.startswith("__") and str(path.parent) not in found
    ]
    words = set(re.findall(r"\w+", tree))
    assert [path for path in files if path.stem not in words] == []
    named = re.findall(r"\b(?:lab|pages|tests|docs|data)/[\w/]+\.(?:py|sql|md|toml)\b", design)
    assert [name for name in named if not (paths.ROOT / name).exists()] == [
        "lab/techniques/my_technique.py"
    ]
