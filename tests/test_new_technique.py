"""A technique is added by itself: `new` writes one that passes, a folder of the user's own is
picked up everywhere, and nothing shared knows a technique by its name."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lab import cli, code_samples, paths, techniques
from lab.endpoints import registry
from lab.harness.estimate import estimate
from lab.harness.plan import SIDE_BY_SIDE
from lab.scenarios import definitions
from lab.settings import config_of

ROOT = paths.ROOT
PROJECT = ("lab", "pages", "tests", "data/scenarios", "docs", ".streamlit")
FILES = ("main.py", "app.py", "README.md", "pyproject.toml", "CHANGELOG.md")
FILES += ("data/prices.toml", "data/README.md")


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A folder of the user's own with the technique that `new` writes."""
    folder = tmp_path / "mine"
    monkeypatch.setenv("LAB_TECHNIQUES", str(folder))
    assert cli.main(["new", "short-answers"]) == 0
    return folder


def page(path: str, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    for name, value in query.items():
        app.query_params[name] = value
    return app.switch_page(path).run()


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_new_writes_a_technique_of_the_checkout_that_passes_at_once(tmp_path):
    """Module, page, test and its row: nothing else is touched, and every test that goes over the
    techniques takes it in."""
    project = tmp_path / "project"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "golden")
    for name in PROJECT:
        shutil.copytree(ROOT / name, project / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, project / name)
    before = files(project)
    taken = {int(path.name.split("_")[0]) for path in (ROOT / "pages").glob("[0-9]*_*.py")}
    number = min(set(range(1, 19)) - taken)

    def python(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], cwd=project, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    written = python("main.py", "new", "short-answers")
    after = files(project)
    assert {name for name in after if after[name] != before.get(name)} == {
        "lab/techniques/short_answers.py",
        f"pages/{number}_Short_answers.py",
        "tests/test_short_answers.py",
        "README.md",
    }
    assert "main.py short-answers --quick" in written
    assert "short-answers: Short answers" in python("main.py", "list")
    told = python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k"),
        "short_answers or short-answers or Short_answers or design_names_every or no_shared_file",
        *("tests/test_short_answers.py", "tests/test_techniques.py"),
        *("tests/test_docs.py", "tests/test_pages.py", "tests/test_new_technique.py"),
    )
    assert int(re.search(r"(\d+) passed", told)[1]) >= 9, told


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("streaming", "There is a command"),
        ("prompt-caching", "There is a command"),
        ("check", "There is a command"),
        ("Class", "small letters"),
        ("class", "a word of Python"),
        ("../x", "small letters"),
    ],
)
def test_new_refuses_a_name_that_exists_or_cannot_be_one(own, capsys, name, reason):
    before = files(own)
    assert cli.main(["new", name]) == cli.USAGE
    assert reason in capsys.readouterr().err and files(own) == before


def test_new_overwrites_nothing(own, capsys):
    (own / "short_answers.py").write_text("")
    assert cli.main(["new", "short-answers"]) == cli.USAGE
    assert "exists, so nothing was written" in capsys.readouterr().err


def test_a_technique_of_a_folder_is_two_files_and_passes_its_test(own, simulated):
    assert {path.name for path in own.glob("*.py")} == {"short_answers.py", "test_short_answers.py"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(own)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_commands_know_it(own, db, capsys):
    assert techniques.slugs()[-1] == "short-answers"
    assert cli.main(["list"]) == 0 and "short-answers: Short answers" in capsys.readouterr().out
    assert cli.commands()["short-answers"].parser().parse_args(["--quick"]).quick
    own_one = techniques.find("Short Answers")
    assert own_one.in_all and estimate(config_of(technique=own_one.slug, endpoint="simulated")).text


def test_its_arms_stand_side_by_side_with_others(own, db):
    arms = ["streaming.streamed", "short-answers.brief"]
    config = config_of(technique=SIDE_BY_SIDE, endpoint="simulated", arms=arms)
    assert not estimate(config).refusals
    app = page("pages/20_Side_by_side.py", what="One paired run", endpoint="simulated")
    assert not app.exception and not app.error
    assert "brief" in app.button_group(key="arms-short-answers").options


def test_it_has_the_shared_page_and_its_arms_as_code(own, db):
    app = page("pages/19_Your_techniques.py", technique="short-answers", endpoint="simulated")
    assert not app.exception and not app.error
    assert [header.value for header in app.header] == ["Short answers"]
    assert app.button(key="run-button").label == "Run 10 blocks"
    technique, endpoint = techniques.find("short-answers"), registry.find("simulated")
    task, knobs = definitions.load(technique.category, "simulated")[0], technique.knobs()
    requests = code_samples.requests(technique, "brief", knobs, task, endpoint)
    assert "one short sentence" in code_samples.python(technique, "brief", knobs, requests)


def test_without_any_the_shared_page_says_how_to_begin(db, monkeypatch):
    monkeypatch.delenv("LAB_TECHNIQUES", raising=False)
    app = page("pages/19_Your_techniques.py")
    assert not app.exception and "new my-technique" in app.info[0].value


BROKEN = {
    "syntax": ("def f(:\n", "syntax.py, line 1: SyntaxError"),
    "error": ("import os\n\n\nos.nothing\n", "error.py, line 4: AttributeError"),
    "no_technique": ("TECHNIQUE = 7\n", "TECHNIQUE is not a lab.model.Technique"),
    "taken_slug": (
        "from lab.techniques.streaming import TECHNIQUE\n",
        "the slug 'streaming' is taken by lab.techniques.streaming",
    ),
    "no_such_metric": (
        (
            "from dataclasses import replace\nfrom lab.techniques.streaming import TECHNIQUE as T\n"
            "TECHNIQUE = replace(T, slug='mine', page='', headline='speed')\n"
        ),
        "there is no metric 'speed'",
    ),
    "one_arm": (
        (
            "from dataclasses import replace\nfrom lab.techniques.streaming import TECHNIQUE as T\n"
            "TECHNIQUE = replace(T, slug='mine', page='', arms=T.arms[:1])\n"
        ),
        "two arms or more",
    ),
}


def test_a_broken_module_is_a_sentence_and_the_others_work(own, db, capsys):
    for name, (source, _) in BROKEN.items():
        (own / f"{name}.py").write_text(source)
    assert cli.main(["list"]) == 0
    told = capsys.readouterr()
    assert "short-answers: " in told.out
    app = page("pages/19_Your_techniques.py", technique="short-answers", endpoint="simulated")
    assert not app.exception and not app.error
    links = [link.proto.label for link in app.get("page_link")]
    assert len(techniques.problems()) == len(BROKEN)
    for name, (_, sentence) in BROKEN.items():
        (problem,) = [each for each in techniques.problems() if str(own / f"{name}.py") in each]
        assert sentence in problem and problem in told.err.splitlines()
        assert f"{name.replace('_', '-')}: cannot be loaded" in links
    for name in ("error", "taken-slug"):  # it cannot be loaded; it is loaded, and refused
        app = page("pages/19_Your_techniques.py", technique=name)
        sentence = BROKEN[name.replace("-", "_")][1]
        assert not app.exception and sentence in app.error[0].value.replace("\\", "")


def test_what_is_edited_is_loaded_again(own):
    module = own / "short_answers.py"
    module.write_text(module.read_text().replace('title="Short answers"', 'title="Brevity"'))
    assert techniques.find("short-answers").title == "Brevity"


def test_a_folder_that_is_none_is_a_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LAB_TECHNIQUES", str(tmp_path / "nothing"))
    assert cli.main(["list"]) == 0 and "which is not a folder" in capsys.readouterr().err


CAPABILITIES = {"streaming", "caching"}
"""What an endpoint can do is called like two of the techniques: these words are capabilities."""
SPEAKS_OF_CAPABILITIES = {
    "lab/endpoints/registry.py",
    "lab/cli/endpoints_test.py",
    "lab/results.py",
    "pages/parts/your_bodies.py",
}

WORDS_OF_THE_API = {"thinking", "conversation", "connection", "thread", "schema"}
WORDS_OF_ANY_PROGRAM = {"new", "kept", "automatic"}
"""What fields of the API, columns, headers and states are called too. A file that names a technique
as one is found all the same: by its title, `main.py thinking`, or `connection.kept`."""

WORDS_OF_A_CALL = {"cached", "uncached", "whole", "first use"}
"""What the tokens and the request of any call are: words of recordings, which some arms are called
by too."""
ABOUT_RECORDINGS = (
    "lab/record",
    "lab/importers/",
    "lab/harness/reporters/recorded",
    "lab/figures/cache_by_call.py",
    "lab/figures/first_token.py",
    "pages/parts/record",
)


def strings(path: Path) -> set[str]:
    """What a module says in strings, its docstrings aside."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    constants = [node for node in nodes if isinstance(node, ast.Constant) and id(node) not in prose]
    return {node.value for node in constants if isinstance(node.value, str)}


def quoted(path: Path) -> set[str]:
    return set(re.findall(r"""["']([^"'\n]+)["']""", path.read_text(encoding="utf-8")))


def test_no_shared_file_knows_a_technique_by_slug_arm_or_title():
    known = techniques.all_techniques()
    slugs = {technique.slug for technique in known}
    arms = {arm.name for each in known for arm in each.arms if len(arm.name) > 1}
    titles = {technique.title for technique in known}
    longer = re.compile(
        r"(?:^|main\.py)"
        rf" ({'|'.join(slugs)})\b|\b({'|'.join(slugs)})\.({'|'.join(map(re.escape, arms))})\b"
        rf"|\b({'|'.join(titles)})\b"
    )
    seen = {}
    for path in [ROOT / "app.py", *(ROOT / "lab").rglob("*.*"), *(ROOT / "pages").rglob("*.*")]:
        name = path.relative_to(ROOT).as_posix()
        if name.startswith("lab/techniques/") or path.suffix not in (
            ".py",
            ".sql",
            ".jinja",
            ".js",
        ):
            continue
        texts = strings(path) if path.suffix == ".py" else quoted(path)
        texts -= WORDS_OF_THE_API | WORDS_OF_ANY_PROGRAM
        if name in SPEAKS_OF_CAPABILITIES:
            texts -= CAPABILITIES
        if name.startswith(ABOUT_RECORDINGS):
            texts -= WORDS_OF_A_CALL
        leaks = {text for text in texts if text in slugs | arms | titles or longer.search(text)}
        if leaks:
            seen[name] = leaks
    assert seen == {}
