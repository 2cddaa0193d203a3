"""The bench of other load clients: what they export is read, joined with what the server wrote, and
told against the lab's. Nothing is installed and no client runs."""

import itertools
import json
import shutil
from pathlib import Path

import duckdb
import pytest

from bench.peers import bias, exports, table
from bench.peers.bias import Known, Pair, Told
from bench.peers.catalogue import CLIENTS, OURS, PEERS, Load
from bench.peers.process_tree import PAGE_MB, TICK_S, ProcessTree, Sample, stat

CASES = Path(__file__).parent / "cases" / "peers"
MS = 1_000_000


def test_aiperf_tells_each_answer_by_the_id_it_asked_under():
    first, second = exports.aiperf(CASES)
    assert first.name == "cda09a32-3626-40f3-954f-2847bb9c3f84"
    assert first.ttft_ms == 238.111257 and second.ttft_ms == 218.57056
    assert len(first.gaps_ms) == 63 and first.gaps_ms[:2] == (11.856855, 8.042299)


def test_what_aiperf_cancelled_or_lost_is_no_answer(tmp_path):
    lines = (CASES / "profile_export.jsonl").read_text().splitlines()
    whole, cancelled, failed = (json.loads(lines[0]) for _ in range(3))
    cancelled["metadata"]["was_cancelled"] = True
    failed["error"] = {"message": "Connection reset"}
    text = "\n".join(json.dumps(one) for one in (whole, cancelled, failed))
    (tmp_path / "profile_export.jsonl").write_text(text)
    assert len(exports.aiperf(tmp_path)) == 1


def test_guidellm_tells_each_answer_by_the_answers_own_id():
    first, _ = exports.guidellm(CASES)
    assert first.name == "chatcmpl-000000000001"
    assert round(first.ttft_ms, 2) == 203.44 and round(first.itl_ms, 3) == 9.982
    assert first.gaps_ms is None


def test_a_reference_client_tells_instants(tmp_path):
    told = {"name": "msg_1", "started_ns": 0, "tokens_ns": [205 * MS, 215 * MS, 226 * MS]}
    (tmp_path / "stamps.jsonl").write_text(json.dumps(told) + "\n")
    assert exports.stamps(tmp_path) == [Told("msg_1", 205.0, (10.0, 11.0))]


def test_the_labs_own_rows_are_read_without_its_warm_up(tmp_path):
    with duckdb.connect(str(tmp_path / "lab.duckdb")) as store:
        store.execute("CREATE TABLE trials (run_id INT, trial_id INT, phase VARCHAR)")
        store.execute(
            "CREATE TABLE calls (run_id INT, trial_id INT, call_id INT, message_id VARCHAR,"
            " started_ns BIGINT, first_token_ns BIGINT, error_kind VARCHAR)"
        )
        store.execute(
            "CREATE TABLE events (run_id INT, call_id INT, seq INT, at_ns BIGINT, kind VARCHAR)"
        )
        store.execute("INSERT INTO trials VALUES (1, 1, 'load'), (1, 2, 'warmup'), (1, 3, 'load')")
        store.execute(
            "INSERT INTO calls VALUES (1, 1, 1, 'msg_1', 1000000, 206000000, NULL),"
            " (1, 2, 2, 'msg_2', 0, 1, NULL), (1, 3, 3, NULL, 0, NULL, 'timeout')"
        )
        store.execute(
            "INSERT INTO events VALUES (1, 1, 0, 5, 'message_start'),"
            " (1, 1, 2, 217000000, 'text_delta'), (1, 1, 1, 206000000, 'text_delta')"
        )
    assert exports.lab(tmp_path) == [Told("msg_1", 205.0, (11.0,))]


def test_an_answer_is_found_by_its_id_and_by_the_clients():
    known = bias.known_answers(
        {
            "msg_1": {"read_ns": 0, "written_ns": [200 * MS, 210 * MS], "asked_as": "mine"},
            "msg_2": {"read_ns": 5 * MS, "written_ns": [206 * MS], "asked_as": None},
            "msg_3": {"read_ns": 5 * MS, "written_ns": [], "asked_as": None},
        }
    )
    assert known == {
        "msg_1": Known(200.0, (10.0,)),
        "mine": Known(200.0, (10.0,)),
        "msg_2": Known(201.0, ()),
    }
    told = [Told("mine", 203.0), Told("msg_2", 201.5), Told("unheard of", 1.0), Told(None, 1.0)]
    pairs = bias.joined(told, known)
    assert bias.ttft_bias_ms(pairs) == [3.0, 0.5]


def test_a_token_that_came_late_is_two_wrong_gaps_and_no_wrong_mean():
    pair = Pair(Told("a", 200.0, (14.0, 6.0, 10.0)), Known(200.0, (10.0, 10.0, 10.0)))
    assert bias.gap_errors_ms([pair]) == [4.0, 4.0, 0.0]
    assert bias.itl_errors_ms([pair]) == [0.0]


def test_an_export_with_a_mean_only_has_no_error_of_a_gap():
    pair = Pair(Told("a", 200.0, itl_ms=10.5), Known(200.0, (10.0, 10.0)))
    assert bias.gap_errors_ms([pair]) == []
    assert bias.itl_errors_ms([pair]) == [0.5]


def test_a_client_that_lost_a_token_has_no_gaps_to_compare():
    pair = Pair(Told("a", 200.0, (20.0,)), Known(200.0, (10.0, 10.0)))
    assert bias.gap_errors_ms([pair]) == []


def test_a_quantile_is_a_value_that_was_seen():
    assert bias.spread(list(range(1, 101))) == {"p50": 50, "p95": 95, "p99": 99}
    assert bias.spread([7.0]) == {"p50": 7.0, "p95": 7.0, "p99": 7.0}


def test_a_process_is_read_whatever_its_name():
    text = (
        "12 (a) b) (c) S 3 12 9 0 -1 0 0 0 0 0 150 50 7 7 20 0 1 0 99 1000 256" + " 0" * 14 + " 1"
    )
    one = stat(text)
    assert (one.parent, one.session, one.core) == (3, 9, 1)
    assert one.cpu_s == 200 * TICK_S and one.rss_mb == 256 * PAGE_MB


def test_cpu_at_an_instant_lies_between_two_samples():
    tree = ProcessTree(1)
    tree.samples = [Sample(0, 0.0, 10, 1), Sample(10, 1.0, 30, 4), Sample(20, 3.0, 20, 2)]
    assert [tree.cpu_until(at) for at in (0, 5, 15, 99)] == [0.0, 0.5, 2.0, 3.0]
    assert (tree.peak_rss_mb, tree.most_processes) == (30, 4)


def ran(client, streams=64, **values):
    about = {"client": client, "streams": streams, "requests": 10, "answered": 10, "exit": 0}
    about |= {"tokens": 1000, "cpu_start_s": 2.0, "cpu_load_s": 1.0, "cpu_end_s": 0.5}
    about |= {"peak_rss_mb": 100, "first_request_s": 1.0, "processes": 2}
    about |= {"install_mb": 50.0, "package_count": 9, "gap_error": None, "itl_error": None}
    about |= {"foreign_share": 0.01}
    return about | {"bias": {"p50": 1.0, "p95": 2.0, "p99": 3.0}} | values


def rows(runs):
    """Each figure's table: the cells of each row, by its client."""
    parts = table.text(runs).split("\n\n")
    tables = {}
    for name, body in itertools.pairwise(parts):
        if name.startswith("**"):
            lines = [line.strip("| ").split(" | ") for line in body.splitlines()[2:]]
            tables[name.strip("*")] = {cells[0]: cells[1:] for cells in lines}
    return tables


def test_a_table_has_the_medians_and_says_how_much_less_the_lab_is_off_or_more():
    theirs = PEERS[0].name
    runs = [ran(OURS.name, bias={"p50": 0.1, "p95": p95, "p99": 0.9}) for p95 in (0.5, 0.4, 9.0)]
    runs += [ran(theirs, peak_rss_mb=80, gap_error={"mean": 2.0, "p95": 4.0})] * 3
    told = rows(runs)
    assert told["TTFT bias, ms: p50 / p95 / p99"] == {
        OURS.name: ["0.10 / 0.50 / 0.90"],
        theirs: ["1.00 / 2.00 / 3.00"],
        table.AGAINST: ["4 × less"],
    }
    assert told["Peak RSS, MB"][table.AGAINST] == ["**1.25 × more**"]
    assert told["Around it"][table.AGAINST] == ["the same"] * 4
    assert told["Error of a gap, ms: mean / p95"] == {
        OURS.name: ["–"],
        theirs: ["2.000 / 4.000"],
        table.AGAINST: ["–"],
    }
    assert told["CPU seconds per 1,000 tokens under load"][OURS.name] == ["1.000"]
    assert told["CPU seconds per 1,000 tokens, start and end counted"][theirs] == ["3.500"]
    assert table.text(runs).endswith("Rounds: 3 at 64.")


def test_a_run_beside_which_others_worked_is_left_out_and_counted():
    runs = [ran(OURS.name, peak_rss_mb=mb) for mb in (100, 110, 120)]
    runs.append(ran(OURS.name, peak_rss_mb=999, foreign_share=0.3))
    runs.append(ran(OURS.name, peak_rss_mb=999, server_late_ms=2.5))
    assert rows(runs)["Peak RSS, MB"][OURS.name] == ["110"]
    assert "Rounds: 3 at 64. 2 runs are left out" in table.text(runs)


def test_a_load_is_a_column():
    runs = [ran(OURS.name, streams=16, peak_rss_mb=50), ran(OURS.name, streams=512)]
    assert rows(runs)["Peak RSS, MB"][OURS.name] == ["50", "100"]


def test_answers_that_a_client_did_not_tell_are_counted_under_the_tables():
    runs = [ran(OURS.name), ran(PEERS[0].name, answered=4, exit=1)]
    assert f"{PEERS[0].name} at 64 streams told 4 of 10 answers (exit 1)." in table.text(runs)


def test_a_reference_is_shown_and_not_judged_against():
    runs = [ran(OURS.name), ran("aiohttp, raw bytes", bias={"p50": 0, "p95": 0, "p99": 0})]
    assert rows(runs)["TTFT bias, ms: p50 / p95 / p99"][table.AGAINST] == ["–"]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda one: one.name)
def test_every_client_is_asked_for_the_same_load(client, tmp_path):
    load = Load("http://127.0.0.1:9", 37, 259, 0.84, tmp_path / "bin", tmp_path / "l", tmp_path)
    words = " ".join(client.command(load)).replace("=", " ").replace(",", " ").split()
    assert "37" in words and "259" in words
    assert any(word.startswith("http://127.0.0.1:9") for word in words)
    assert shutil.which(words[0]) is None  # of its own environment
