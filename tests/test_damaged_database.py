"""A database whose blocks are damaged on disk: a sentence where they are needed, and everything
else goes on."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from lab import cli, paths
from lab.store.store import Store
from tests.recorded_runs import record

HEADERS, BLOCK = 3 * 4096, 262_144


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[bytes, str]:
    """The bytes of a database of two runs, and the newer run's id."""
    store = Store(tmp_path_factory.mktemp("whole") / "lab.duckdb")
    record(store, blocks=30)
    run_id = record(store, blocks=2)
    return store.path.read_bytes(), run_id


def damaged(whole: bytes, block: int) -> bytes:
    broken = bytearray(whole)
    for place in range(
        HEADERS + block * BLOCK + 64, min(HEADERS + (block + 1) * BLOCK, len(broken)), 512
    ):
        broken[place] ^= 0xFF
    return bytes(broken)


def opened(path: str) -> AppTest:
    app = AppTest.from_file(str(paths.ROOT / "app.py"), default_timeout=60)
    return (app if path == "app.py" else app.switch_page(path)).run()


def test_each_damaged_block_is_a_sentence_on_every_command(db, whole, capsys, tmp_path):
    content, run_id = whole
    blocks = (len(content) - HEADERS) // BLOCK
    assert blocks > 3
    sentences, good = [], 0
    for block in range(blocks):
        db.write_bytes(damaged(content, block))
        for number, words in enumerate(
            (["runs"], ["show", run_id], ["export", "--out", str(tmp_path / str(block))])
        ):
            code = cli.main(words)
            out, err = capsys.readouterr()
            assert code in (0, 2) and (code == 0 or not out or number == 2), (block, words, out)
            sentences += [err] if code else []
            good += code == 0
    assert good and sentences  # a block that no query needs hinders none
    assert [
        text
        for text in sentences
        if len(text.splitlines()) != 1 or ("--db" not in text and "export --run" not in text)
    ] == []


def test_pages_say_it_and_go_on(db, whole):
    content, _ = whole
    told = 0
    for block in range(0, (len(content) - HEADERS) // BLOCK, 3):
        db.write_bytes(damaged(content, block))
        for path in (
            "app.py",
            "pages/2_Prompt_caching.py",
            "pages/21_History.py",
            "pages/22_Explorer.py",
        ):
            app = opened(path)
            assert not app.exception, (block, path, app.exception[0].value)
            assert app.header
            told += len(app.error)
    assert told
