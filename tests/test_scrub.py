"""Whatever a server sends back of a key is neither kept nor shown, in whichever way it is
written."""

import base64
import json
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from lab import scrub
from lab.rows import CallRow, EventRow, FinishedTrial, SpanRow, TrialRow

KEY = "sk-ant-planted-0Aq7+Zx/93kLmN_pQrStUvWx"  # 39 characters


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


def leaks(text: str) -> list[str]:
    half = len(KEY) // 2
    looked_for = [KEY, KEY[:half], KEY[half:], KEY.encode().hex(), quote(KEY, safe="")]
    looked_for += [
        base64.b64encode(part.encode()).decode().rstrip("=")[:-1]
        for part in (KEY, KEY[:half], KEY[half:])
    ]
    return [form for form in looked_for if form in text]


WRITTEN = {
    "plain": KEY,
    "first half": KEY[:19],
    "second half": KEY[19:],
    "all but its ends": KEY[3:-3],
    "the thirds, turned": KEY[26:] + KEY[:26],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 after one": base64.b64encode(b":" + KEY.encode()).decode(),
    "base64 after two": base64.b64encode(b"k:" + KEY.encode() + b"!").decode(),
    "urlsafe base64": base64.urlsafe_b64encode(KEY.encode()).decode(),
    "base64 of a half": base64.b64encode(KEY[19:].encode()).decode(),
    "hex": KEY.encode().hex(),
    "HEX": KEY.encode().hex().upper(),
    "percent": quote(KEY, safe=""),
    "all percent": "".join(f"%{byte:02X}" for byte in KEY.encode()),
    "unicode escapes": "".join(f"\\u{byte:04x}" for byte in KEY.encode()),
    "upper case": KEY.upper(),
}


@pytest.mark.parametrize("written", WRITTEN)
def test_a_key_is_blanked_however_it_is_written(written):
    for before in range(6):
        cleaned = scrub.text("x" * before + " " + WRITTEN[written] + " and the rest")
        assert leaks(cleaned) == [] and "[key]" in cleaned and cleaned.endswith("and the rest")
        assert len(cleaned) < before + 40


def test_what_is_no_key_stays_as_it_is():
    plain = (
        "Your key should begin with sk-ant-, as in sk-ant-api03-…; see"
        " https://example.com/keys?page=2 \n\t— ünïcödé 🙂"
    )
    assert scrub.text(plain) == plain


def test_every_key_of_the_user_is_known(monkeypatch, tmp_path):
    secrets = tmp_path / "secrets.toml"
    secrets.write_text(
        '[endpoints.mine]\nbase_url = "https://a.example"\napi_key ='
        ' "key-of-an-endpoint"\n[keys]\n"https://b" = "key-of-a-host-b"'
    )
    (tmp_path / "local.json").write_text(json.dumps({"api_key": "key-of-the-local-server"}))
    monkeypatch.setenv("LAB_SECRETS", str(secrets))
    monkeypatch.setenv("LAB_RUNTIME", str(tmp_path))
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-of-the-environment")
    monkeypatch.setenv("LAB_API_KEYS", '{"https://c.example": "key-of-another-host"}')
    for key in (
        "key-of-an-endpoint",
        "key-of-a-host-b",
        "key-of-the-local-server",
        "token-of-the-environment",
        "key-of-another-host",
    ):
        assert scrub.text(f"<{key}>") == "<[key]>"
    assert "https://a.example" in scrub.text("at https://a.example")


def test_settings_that_cannot_be_read_stop_no_scrubbing(monkeypatch, tmp_path):
    (tmp_path / "secrets.toml").write_text("[")
    monkeypatch.setenv("LAB_SECRETS", str(tmp_path / "secrets.toml"))
    monkeypatch.setenv("LAB_API_KEYS", "nothing like JSON")
    assert scrub.text(KEY) == "[key]"


def test_a_long_text_is_cut_and_says_how_long_it_was():
    cut = scrub.text("a" * 2_000_000, 500)
    assert len(cut) == 500 and cut.endswith("a… (2,000,000 characters)")
    assert (
        leaks(scrub.text("a" * 490 + KEY * 2, 500)) == [] and len(scrub.text("b" * 500, 500)) == 500
    )


def test_control_sequences_are_made_visible_one_for_one():
    wild = "\x1b[2J\x07 \x7f \x9b31m \u202etxet\u2066 \r\n\tend\x00 \ud83d"
    shown = scrub.visible(wild)
    assert len(shown) == len(wild) and "\n\t" in shown and "␛[2J␇" in shown and "␍" in shown
    assert all(c.isprintable() or c in "\n\t" for c in shown) and shown.encode()


def test_a_key_told_one_character_at_a_time_is_blanked_piece_by_piece():
    when = datetime.now(UTC)
    trial = TrialRow(
        "t",
        "r",
        "s",
        "streaming",
        "whole",
        1,
        0,
        1,
        "measured",
        None,
        when,
        0,
        error_text=f"bad {KEY}",
        error_kind="x" * 999,
    )
    call = CallRow(
        "c",
        "t",
        "r",
        "s",
        "p",
        "answer",
        1,
        "anthropic",
        "m",
        request_id=KEY,
        error_text=KEY,
        stop_reason="\x1b",
    )
    other = CallRow("d", "t", "r", "s", "p", "answer", 1, "anthropic", "m")
    told = [("text_delta", "Hi ")] + [("text_delta", c) for c in KEY] + [("text_delta", " bye")]
    mixed = [pair for c in KEY for pair in (("text_delta", c), ("thinking_delta", "a thought"))]
    events = [
        EventRow("c", "r", seq, seq, kind, len(text), text) for seq, (kind, text) in enumerate(told)
    ]
    events += [
        EventRow("d", "r", seq, seq, kind, len(text), text)
        for seq, (kind, text) in enumerate(mixed)
    ]
    events += [EventRow("d", "r", 999, 999, f"ping {KEY}", 0, None)]
    finished = FinishedTrial(
        trial, [call, other], [SpanRow("p", "t", "r", "s", None, "tool", KEY, 0)], events
    )
    scrub.trial(finished)
    assert trial.error_text == "bad [key]" and len(trial.error_kind) == 200
    assert (call.request_id, call.error_text, call.stop_reason, finished.spans[0].name) == (
        "[key]",
        "[key]",
        "␛",
        "[key]",
    )
    assert "".join(event.text for event in events[: len(told)]) == "Hi " + "•" * 39 + " bye"
    assert (
        "".join(event.text for event in events[len(told) : -1] if event.kind == "text_delta")
        == "•" * 39
    )
    assert [event.text for event in events[len(told) + 1 : -1 : 2]] == ["a thought"] * 39
    assert events[-1].kind == "ping [key]" and events[-1].text is None
    assert [len(event.text) for event in events[:-1]] == [event.characters for event in events[:-1]]
