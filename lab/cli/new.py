"""`new`: a technique to begin with, from the contract: module, page and test, all passing."""

import keyword
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from string import Template

from lab import paths, techniques
from lab.cli import DONE, commands, shown
from lab.model import LabError
from lab.paths import COMMAND

NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
MODULE = Template('''"""$title: does it shorten the wait, and what does it cost?"""

from pydantic import Field

from lab.model import Arm, Bench, Knobs, Request, Technique
from lab.scenarios.definitions import Task


class ${name}Knobs(Knobs):
    """Each becomes a flag of the command and a widget of the page."""

    answer_tokens: int = Field(48, ge=1, le=2000, description="the most tokens an answer may have")


async def trial(bench: Bench, arm: str, knobs: ${name}Knobs, task: Task) -> str | None:
    """One trial of an arm: what a user would wait for. The bench times every call."""
    changes = {"system": task.instructed("Answer in one short sentence.")} if arm == "brief" else {}
    reply = await bench.call(Request(task.body_for(knobs.answer_tokens, **changes)))
    return reply.text if reply.ok else None


TECHNIQUE = Technique(
    slug="$slug",
    title="$title",
    claim="An answer asked for in one short sentence ends sooner.",
    published="",
    arms=(
        Arm("plain", "the task as it is"),
        Arm("brief", "the task, with one short sentence asked for"),
    ),
    headline="total_ms",
    headline_arm="brief",
    knobs=${name}Knobs,
    trial=trial,
$page)
''')
PAGE = Template('''"""$title: the task as it is, against one that asks for a short answer."""

from lab.techniques.$module import TECHNIQUE
from pages.parts import experiment

experiment.page(TECHNIQUE)
''')
TEST = Template('''"""$title: every arm is measured, and its trials end well."""

${imports}from lab import Lab, techniques


def test_every_arm_is_measured(tmp_path, monkeypatch):
$own    technique = techniques.find("$slug")
    run = Lab("simulated", db=tmp_path / "lab.duckdb", progress=False).run("$slug", runs=1)
    trials = run.trials()
    assert set(trials["arm"]) == {arm.name for arm in technique.arms}
    assert set(trials["outcome"]) == {"ok"}
''')
OWN = {
    "imports": "from pathlib import Path\n\n",
    "own": '    monkeypatch.setenv("LAB_TECHNIQUES", str(Path(__file__).parent))\n',
}
"""What the test of a technique in the user's own folder has besides."""


def handlers(name: str):
    return add_flags, write


def add_flags(parser: ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="what its command is called: small letters, digits and dashes"
    )
    parser.add_argument(
        "--title", metavar="TEXT", help="what its page is called (default: the name, in words)"
    )


def write(arguments: Namespace) -> int:
    slug = arguments.name
    module, title = slug.replace("-", "_"), arguments.title or slug.replace("-", " ").capitalize()
    _check(slug, module, title)
    words = {"slug": slug, "module": module, "title": title, "page": "", "own": "", "imports": ""}
    words["name"] = "".join(map(str.capitalize, slug.split("-")))
    folder = _own_folder()
    if folder:
        texts = {
            folder / f"{module}.py": MODULE.substitute(words),
            folder / f"test_{module}.py": TEST.substitute(words | OWN),
        }
    else:
        page = f"{_free_number()}_{re.sub(r'[^A-Za-z0-9]+', '_', title).strip('_')}.py"
        texts = {
            paths.ROOT / "lab" / "techniques" / f"{module}.py": MODULE.substitute(
                words | {"page": f'    page="{page}",\n'}
            ),
            paths.ROOT / "pages" / page: PAGE.substitute(words),
            paths.ROOT / "tests" / f"test_{module}.py": TEST.substitute(words),
        }
    for path in texts:
        if path.exists():
            raise LabError(f"{path} exists, so nothing was written. Choose another name.")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {shown(path)}")
    if not folder:
        _add_row(
            f"| [`{slug}`](pages/{page}) | does a short answer end sooner? | plain → brief"
            " | nothing yet |"
        )
        print("wrote its row in README.md")
    elif techniques.own_folder() is None:
        print(f"\nSay where it is: export LAB_TECHNIQUES={folder}")
    *_, test = texts
    print(
        f"\nTry it:  {COMMAND} {slug} --quick --endpoint simulated"
        f"\nTest it: python -m pytest {shown(test)}"
    )
    print(f"Then write down what it claims: {shown(next(iter(texts)))}")
    return DONE


def _check(slug: str, module: str, title: str) -> None:
    if not NAME.fullmatch(slug) or len(slug) > 40:
        raise LabError(
            f"{slug!r} cannot be a command: use small letters, digits and dashes, such as"
            " my-technique."
        )
    if slug in commands() or techniques.slug_of(slug) or keyword.iskeyword(module):
        raise LabError(f"There is a command, a technique or a word of Python called {slug!r}.")
    if title in {technique.title for technique in techniques.all_techniques()}:
        raise LabError(f"There is a technique titled {title!r}; choose another --title.")
    if not re.search(r"[A-Za-z0-9]", title) or re.search(r'["\\\n]', title):
        raise LabError(f"A page cannot be titled {title!r}: letters and digits are needed.")


def _own_folder() -> Path | None:
    """Where a technique of the user's own goes; None where it becomes a part of the checkout."""
    return techniques.own_folder() or (Path.cwd() / "techniques" if paths.INSTALLED else None)


def _free_number() -> int:
    pages = (paths.ROOT / "pages").glob("[0-9]*_*.py")
    taken = {int(page.name.partition("_")[0]) for page in pages}
    for number in range(1, 19):
        if number not in taken:
            return number
    raise LabError(
        "There is no room for another page; set LAB_TECHNIQUES to a folder of your own, and its"
        " techniques share one."
    )


def _add_row(row: str) -> None:
    readme = paths.ROOT / "README.md"
    lines = readme.read_text(encoding="utf-8").splitlines(keepends=True)
    last = max(place for place, line in enumerate(lines) if line.startswith("| [`"))
    lines.insert(last + 1, f"{row}\n")
    readme.write_text("".join(lines), encoding="utf-8")
