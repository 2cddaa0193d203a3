"""A database with every value that a server, a file or a hand can put into it: each page and
command opens on it and shows the good run."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator

import duckdb
import pytest
from streamlit.testing.v1 import AppTest

from lab import cli, paths, results
from lab.scrub import UNSEEN
from lab.store import queries
from lab.store.store import Store
from lab.techniques import all_techniques
from pages.parts import frame
from tests.recorded_runs import record

INT, BIG = 2**31 - 1, 2**63 - 1
TERMINAL = "'a' || chr(27) || '[2J' || chr(155) || '2J' || chr(8238) || 'b' || chr(7)"
TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "physical_cache_tokens",
    "output_tokens",
    "thinking_tokens",
)
ITERATIONS = f"""'[{{"type": "compaction", "input_tokens": {BIG}, "output_tokens": "{BIG}",
        "cache_read_input_tokens": "{BIG}"}},
    {{"type": "compaction", "input_tokens": "{BIG}", "output_tokens": {BIG}}},
    {{"type": ["x"], "model": 7}}, 7]'"""
INSTANTS = (
    "dns_ns",
    "connected_ns",
    "tls_ns",
    "sent_ns",
    "headers_ns",
    "first_byte_ns",
    "message_start_ns",
    "thinking_started_ns",
    "first_thinking_ns",
    "first_text_ns",
    "first_sentence_ns",
    "first_tool_ns",
    "whole_tool_ns",
    "last_text_ns",
    "last_token_ns",
    "ended_ns",
    "loop_lag_ns",
)


def to_all(columns: tuple[str, ...], value: object) -> str:
    return ", ".join(f"{column} = {value}" for column in columns)


def called(name: str) -> str:
    """SQL that calls everything in a run that has a name by this one; of the arms, `cached`."""
    quoted, inner = name.replace("'", "''"), json.dumps(name)[1:-1].replace("'", "''")
    return f"""
        UPDATE trials SET arm = '{quoted}' WHERE arm = 'cached' AND run_id = $run;
        UPDATE runs SET settings = replace(settings::VARCHAR, '"cached"', '"{inner}"')::JSON,
            models = '{{"small": "{inner}"}}',
            name = '{quoted}', note = '{quoted}', endpoint = '{quoted}' WHERE run_id = $run;
        UPDATE calls SET model = '{quoted}', endpoint = '{quoted}',
            stop_reason = '{quoted}' WHERE run_id = $run;
        UPDATE events SET text = '{quoted}' WHERE run_id = $run;
        UPDATE spans SET name = '{quoted}' WHERE run_id = $run
    """


def settings(value: str) -> str:
    return f"UPDATE runs SET settings = '{value}' WHERE run_id = $run"


NUMBERS = {
    "largest tokens, no prices": (
        f"""
        UPDATE calls SET {to_all(TOKENS, INT)}, cost_usd = 'nan', iterations = {ITERATIONS},
            server_ms = '{{"queue": "NaN", "prefill": {{"a": [1]}}, "decode": 1e400}}'
            WHERE run_id = $run;
        UPDATE trials SET quality = 'nan', cost_usd = 'inf', deadline_ms = '-inf'
            WHERE run_id = $run
    """
    ),
    "tokens below zero, prices beyond all sums": (
        f"""
        UPDATE calls SET {to_all(TOKENS, -INT - 1)}, http_status = -1, attempt = {INT},
            cost_usd = 1e308,
            iterations = '7', server_ms = '{{"queue": NaN, "prefill": null,
                "decode": "<b>1</b>"}}' WHERE run_id = $run;
        UPDATE trials SET quality = 1e308, cost_usd = -1e308, deadline_ms = 1e308
            WHERE run_id = $run
    """
    ),
    "instants as far apart as can be": (
        f"""
        UPDATE calls SET started_ns = {-BIG - 1}, {to_all(INSTANTS, BIG)}, server_ms = '[1,
            2]' WHERE run_id = $run;
        UPDATE trials SET started_ns = {-BIG - 1}, ended_ns = {BIG}, block = {INT},
            position = {-INT - 1},
            attempt = {INT}
            WHERE run_id = $run AND block = 2;
        UPDATE spans SET started_ns = {-BIG - 1}, ended_ns = {BIG} WHERE run_id = $run;
        UPDATE events SET at_ns = {BIG}, characters = {INT}, seq = {-INT - 1} WHERE run_id = $run;
        UPDATE runs SET seed = {BIG} WHERE run_id = $run
    """
    ),
    "instants the wrong way round": (
        f"""
        UPDATE calls SET started_ns = {BIG}, {to_all(INSTANTS, -BIG - 1)} WHERE run_id = $run;
        UPDATE trials SET started_ns = {BIG}, ended_ns = {-BIG - 1} WHERE run_id = $run;
        UPDATE spans SET parent_id = span_id WHERE run_id = $run
    """
    ),
    "no end": (
        """
        UPDATE calls SET ended_ns = NULL, first_text_ns = NULL, model = '',
            error_text = '' WHERE run_id = $run;
        UPDATE trials SET ended_ns = NULL, task_id = '', error_text = '' WHERE run_id = $run;
        UPDATE spans SET ended_ns = NULL WHERE run_id = $run;
        UPDATE runs SET name = '', note = '', endpoint = '' WHERE run_id = $run
    """
    ),
}
WORDS = {
    "texts of two megabytes": (
        """
        UPDATE runs SET note = repeat('n', 2000000), name = repeat('m ', 1000000)
            WHERE run_id = $run;
        UPDATE calls SET error_text = repeat('e', 2000000), error_kind = repeat('k',
            2000) WHERE run_id = $run AND started_ns % 3 = 0
    """
    ),
    "orders to a terminal": (
        f"""
        UPDATE runs SET name = {TERMINAL}, note = {TERMINAL}, endpoint = {TERMINAL}
            WHERE run_id = $run;
        UPDATE calls SET model = {TERMINAL}, stop_reason = {TERMINAL} WHERE run_id = $run;
        UPDATE trials SET error_kind = {TERMINAL}, outcome = 'failed' WHERE run_id = $run
            AND block = 2;
        UPDATE trials SET arm = {TERMINAL} WHERE run_id = $run AND arm = 'cached'
    """
    ),
    "a link": called("<a href='http://evil.example'>x</a>"),
    "a link in Markdown, a script": called("[x](http://evil.example)<script>alert(1)</script>"),
    "words that are none": (
        """
        UPDATE runs SET endpoint_kind = 'cloud', status = 'dreaming' WHERE run_id = $run;
        UPDATE trials SET outcome = 'great' WHERE run_id = $run AND block = 1;
        UPDATE trials SET phase = 'other' WHERE run_id = $run AND block = 2;
        UPDATE calls SET role = 'king', intended_cache = 'perhaps' WHERE run_id = $run;
        UPDATE spans SET kind = 'wormhole' WHERE run_id = $run;
        UPDATE events SET kind = 'noise' WHERE run_id = $run
    """
    ),
    "a technique that is none": (
        "UPDATE runs SET technique = 'of/another<b>lab' WHERE run_id = $run"
    ),
}
SHAPES = {
    "settings of nothing, the year 20000": settings("{}")
    + """;
        UPDATE runs SET started_utc = '20000-01-01', ended_utc = '20000-01-02' WHERE run_id = $run;
        UPDATE trials SET started_utc = '20000-01-01' WHERE run_id = $run
    """,
    "settings of null, models as a list": settings("null")
    + """;
        UPDATE runs SET models = '[]' WHERE run_id = $run;
        UPDATE sessions SET machine = '7', instrument = '[]' WHERE run_id = $run
    """,
    "settings of other kinds": settings(
        '{"config": [], "arms": "cached", "baseline": 3, "headline": {"metric": 5}, "knobs": [],'
        ' "runs": "many", "level": 7}'
    ),
    "settings a thousand levels deep": (
        "UPDATE runs SET settings = (repeat('[', 1000) || repeat(']', 1000))::JSON WHERE run_id ="
        " $run"
    ),
    "settings of odd parts, infinity": (
        """
        UPDATE runs SET started_utc = 'infinity', ended_utc = '-infinity',
            models = '{"small": 5, "large": null}',
            settings = json_merge_patch(settings, '{
                "config": {"deadline_s": 5, "tasks": [{"a": 1}], "nope": 1}, "knobs": {"nope": 1},
                "statistics": {"level": 7}
            }') WHERE run_id = $run;
        UPDATE trials SET started_utc = 'infinity' WHERE run_id = $run;
        UPDATE sessions SET started_utc = '-infinity', instrument = '{"own_error_p95_ms": "x",
            "loop_lag_p95_ms": []}' WHERE run_id = $run
    """
    ),
}
POISONS = NUMBERS | WORDS | SHAPES
SLUGS = [technique.slug for technique in all_techniques()]


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory) -> Iterator[tuple[str, dict[str, str]]]:
    """(the good run, poison -> its run): all in one database, each poison on a page of its own
    turn."""
    path = tmp_path_factory.mktemp("poisoned") / "lab.duckdb"
    store, runs = Store(path), {}
    for number, poison in enumerate(POISONS):
        runs[poison] = record(store, blocks=2, technique=SLUGS[number % len(SLUGS)])
    good = record(store, blocks=6)
    with duckdb.connect(str(path)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for poison, sql in POISONS.items():
            connection.execute(sql.replace("$run", f"'{runs[poison]}'"))
        connection.execute(f"UPDATE runs SET name = 'the good one' WHERE run_id = '{good}'")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DB", str(path))
        yield good, runs


def opened(path: str, **query: str | list[str]) -> AppTest:
    app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=300)
    for name, value in query.items():
        app.query_params[name] = value
    return (app if path == "app.py" else app.switch_page(path)).run()


def wrong(app: AppTest) -> list[str]:
    """Exceptions are bugs; an error in words is what a poisoned run may be answered with."""
    return [f"{error.value} {error.stack_trace}"[-600:] for error in app.exception]


@pytest.mark.parametrize("path", ["app.py", *(page.path for page in frame.page_files())])
def test_every_page_opens(poisoned, path):
    app = opened(path)
    assert wrong(app) == [] and not app.error


@pytest.mark.parametrize("poison", POISONS)
def test_every_page_opens_on_a_poisoned_run(poisoned, poison):
    _, runs = poisoned
    page = frame.page_of(queries.run(Store(), runs[poison])["technique"])
    failures = (
        {"History": wrong(opened("pages/21_History.py", run=runs[poison]))}
        if poison in SHAPES
        else {}
    )
    if page:
        app = opened(page.path, run=runs[poison])
        failures["first"] = wrong(app)
        views = [view for view in app.button_group if view.key == "view"]
        for view in views[0].options[1:] if views else ():
            name = str(getattr(view, "content", view))
            failures[name] = wrong(app.button_group(key="view").set_value(name).run())
    assert {view: failure for view, failure in failures.items() if failure} == {}


def test_poisoned_runs_stand_side_by_side_with_the_good_one(poisoned):
    """Each is in a group of its own or the good one's; a link may name any of them. Those of one
    group are drawn together."""
    good, runs = poisoned
    groups: dict[tuple[str, str], list[str]] = {}
    for run_id in runs.values():
        run = queries.run(Store(), run_id)
        groups.setdefault((run["technique"], run["endpoint_kind"]), []).append(run_id)
    failures = {
        group: wrong(opened("pages/20_Side_by_side.py", runs=[*ids, good]))
        for group, ids in groups.items()
    }
    assert {group: failure for group, failure in failures.items() if failure} == {}


def test_the_good_run_is_whole_on_every_page(poisoned):
    good, _ = poisoned
    app = opened(frame.page_of("caching").path, run=good)
    assert wrong(app) == [] and not app.error
    assert any("Cached is faster" in words.value for words in app.markdown)
    assert any("the good one" in words.value for words in opened("app.py").caption)
    assert (
        "the good one"
        in opened("pages/21_History.py", run=good).dataframe[0].value["name"].tolist()
    )


# Commands


def main(capsys, *words: str) -> tuple[int, str, str]:
    """A command in this process: a bug would be an exception here."""
    try:
        code = cli.main(list(words))
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


def strictly(text: str) -> object:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def unseen(text: str) -> set[str]:
    """Characters that a terminal would obey."""
    return set(UNSEEN.findall(text))


def test_runs_are_listed_all_of_them(poisoned, capsys):
    good, runs = poisoned
    code, out, _ = main(capsys, "runs", "--limit", "100")
    assert (
        code == 0
        and good in out
        and "the good one" in out
        and all(run_id in out for run_id in runs.values())
        and unseen(out) == set()
    )
    assert max(map(len, out.splitlines())) < 1000
    code, out, _ = main(capsys, "runs", "--limit", "100", "--json")
    assert code == 0 and len(strictly(out)["runs"]) == len(POISONS) + 1 and unseen(out) == set()


@pytest.mark.parametrize("poison", [*POISONS, None])
def test_every_command_answers_for_every_run(poisoned, poison, capsys, tmp_path, monkeypatch):
    """`show`, `check` and `report` tell of one reading of the run."""
    monkeypatch.setattr(results, "read", functools.cache(results.read))
    good, runs = poisoned
    run_id = runs.get(poison, good)
    commands = {
        "show": [run_id, "--details", "--output", "console,markdown,json", "--out", str(tmp_path)],
        "check": [run_id, "--require", "p50 total_ms < 4000", "--json"],
        "report": [run_id, "--out", str(tmp_path / "report.html")],
        "trace": [run_id, "--to", "file", "--out", str(tmp_path / "traces.jsonl")],
        "resume": [run_id],
    }
    codes = {}
    for command, words in commands.items():
        codes[command], out, err = main(capsys, command, *words)
        assert codes[command] in (0, 2, 3, 4) and "Traceback" not in err, (command, err[-900:])
        assert unseen(out + err) == set(), command
        if command == "check" and codes[command] != 2:
            strictly(out)
    assert (codes["show"], codes["report"], codes["trace"]) == (0, 0, 0)
    assert (
        codes["resume"] == 2
    )  # a run that has all its blocks is not resumed, and one that cannot be read says so
    assert strictly((tmp_path / f"{run_id}.json").read_text())["run_id"] == run_id
    if poison is None:
        assert codes["check"] == 0


@pytest.mark.parametrize("format", ["parquet", "csv", "json", "duckdb"])
def test_everything_is_exported(poisoned, format, capsys, tmp_path):
    code, out, err = main(capsys, "export", "--format", format, "--out", str(tmp_path / "out"))
    assert (code, err) == (0, "") and len(out.splitlines()) == (1 if format == "duckdb" else 11)


def test_a_poisoned_database_that_is_imported_brings_its_good_run(poisoned, tmp_path):
    good, _ = poisoned
    mine = Store(tmp_path / "mine.duckdb")
    imported = mine.import_from(paths.database())
    assert imported.runs >= 1 and imported.left_out > 0
    assert (
        queries.trials(mine, good)["total_ms"].tolist()
        == queries.trials(Store(), good)["total_ms"].tolist()
    )
