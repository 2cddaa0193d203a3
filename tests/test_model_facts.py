"""What an endpoint says of its models decides what is asked of it; where it says nothing, the names
do."""

import json
from contextlib import ExitStack
from datetime import date, timedelta

import anthropic
import pytest

from bench.raw_server import Connection, RawServer
from lab import endpoint_kinds, techniques
from lab.cli import main
from lab.cli import run as run_commands
from lab.clock import today
from lab.endpoints import ask_models, consent, model_facts, registry
from lab.harness.estimate import estimate
from lab.harness.plan import lacking
from lab.settings import config_of
from lab.techniques.thinking.technique import ThinkingKnobs

NAME = "claude-novel-6"


@pytest.fixture(autouse=True)
def own_settings(tmp_path, monkeypatch):
    monkeypatch.setenv("LAB_SETTINGS", str(tmp_path / "settings"))


def supported(**parts: bool) -> dict:
    return {name: {"supported": able} for name, able in parts.items()}


def card(name=NAME, retires=None, effort=True, adaptive=True, disabled=False, **more) -> dict:
    """As the API writes one: low and high, no max."""
    types = supported(adaptive=adaptive, between_tools=True, disabled=disabled, enabled=False)
    return {
        "type": "model",
        "id": name,
        "display_name": "Novel",
        "lifecycle": "active",
        "retires_at": f"{retires}T00:00:00Z" if retires else None,
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "capabilities": {
            "effort": {"supported": effort, **supported(low=effort, high=effort, max=False)},
            "structured_outputs": {"supported": False},
            "thinking": {"supported": adaptive, "types": types},
        },
        **more,
    }


@pytest.fixture
def listing():
    """Servers on demand that list these models and answer messages; requests may go there."""
    with ExitStack() as stack:

        def made(value, **how):
            def answer(connection: Connection) -> None:
                if connection.asked.path.startswith("/v1/models"):
                    connection.json(value, **how)
                else:
                    connection.good()

            server = stack.enter_context(RawServer(answer))
            consent.allow(server.url, key=False)
            return server

        yield made


def questions(server) -> list[str]:
    return [asked.path for asked in server.asked if "/v1/models" in asked.path]


def found(server, model=NAME) -> registry.Endpoint:
    return registry.find(server.url, {"any": model})


def test_a_card_says_what_its_model_can_and_is_asked_for_once(listing):
    server = listing({"data": [card()]})
    assumed = found(server).capabilities
    assert {"effort", "thinking", "structured"} <= assumed, "by the name, of a Claude"
    for _ in range(2):
        ask_models.ask(found(server))
    assert questions(server) == ["/v1/models?limit=1000"]
    told = found(server)
    unsaid = {"effort medium", "effort xhigh", "effort max"}
    assert told.capabilities == assumed - {"structured"} - unsaid
    said = told.said_of(f"{NAME}-20261101")
    assert (said.efforts, said.input_tokens, said.output_tokens) == (
        ("low", "high"),
        200_000,
        64_000,
    )
    assert told.thinking_off(NAME) == {"type": "between_tools"}, "disabled would be refused"


def test_an_effort_that_the_card_does_not_name_is_left_out_of_a_run(listing):
    server = listing({"data": [card()]})
    ask_models.ask(found(server))
    knobs = ThinkingKnobs(efforts=("default", "high", "xhigh"), displays=("hidden",))
    able = techniques.find("thinking").arms_for(knobs, found(server).capabilities)
    assert [arm.name for arm in able] == ["default effort", "high effort"]
    words = lacking("It", ["effort xhigh"], found(server))
    assert words.endswith("cannot do effort xhigh, which It is about.")


def test_what_a_card_denies_is_not_asked_for_whatever_the_name(listing):
    server = listing({"data": [card(effort=False, adaptive=False)]})
    ask_models.ask(found(server))
    told = found(server)
    assert not {"effort", "thinking"} & told.capabilities and told.thinking_off(NAME) is None
    words = lacking("This", ["effort", "thinking"], told)
    assert words.endswith("cannot do effort, thinking, which This is about; simulated can.")


@pytest.mark.parametrize(
    "value",
    [
        b"<html>",
        {"data": "none"},
        {"data": [None, 7, {}, {"id": 3}]},
        {"data": [{"id": NAME, "capabilities": [], "max_tokens": "many", "retires_at": 7}]},
        {"data": [{"id": NAME, "capabilities": {"effort": 1, "thinking": {"types": ["x"]}}}]},
        {"data": [{"id": NAME, "capabilities": {"effort": {"supported": True}, "thinking": {}}}]},
    ],
)
def test_an_odd_list_leaves_the_defaults(listing, value):
    server = listing(value)
    ask_models.ask(found(server))
    assert {"effort", "thinking"} <= found(server).capabilities
    assert not found(server, "llama").capabilities & {"effort", "thinking", "threads"}


def test_who_does_not_answer_is_left_alone_and_what_it_said_before_stays(listing, monkeypatch):
    server = listing({"data": [card(effort=False)]})
    ask_models.ask(found(server))

    async def never(client):
        raise anthropic.APIConnectionError(request=None)

    with monkeypatch.context() as patch:
        patch.setattr(model_facts, "FRESH", timedelta(0))
        patch.setattr(ask_models, "listed", never)
        ask_models.ask(found(server))
    assert "effort" not in found(server).capabilities
    ask_models.ask(found(server))
    assert len(questions(server)) == 1, "within ten minutes nobody asks again"


def test_no_page_waits_for_a_list(listing):
    server = listing({"data": [card()]})
    ask_models.ask_beside(found(server))
    while server.url in ask_models._asking:
        ask_models.clock.pause_s(0.01)
    assert found(server).models_said.keys() == {NAME}


def test_the_labs_own_servers_are_not_asked_because_their_kind_says_it(simulated, monkeypatch):
    monkeypatch.setenv("LAB_LOCAL_KEY", simulated.api_key)
    consent.allow(simulated.base_url, key=False)
    asked = []
    monkeypatch.setattr(ask_models.asyncio, "run", asked.append)
    endpoint = registry.find(simulated.base_url)
    ask_models.ask(endpoint)
    assert asked == []
    with anthropic.Anthropic(base_url=simulated.base_url, api_key=simulated.api_key) as client:
        cards = [card.model_dump(mode="json") for card in client.models.list()]
    promised = endpoint_kinds.kind("simulated").can
    for each in map(model_facts.of_card, cards):
        assert {name for name, can in each.can.items() if can} <= endpoint.capabilities
        assert {"effort", "thinking"} <= promised and each.can["effort"] and each.can["thinking"]


@pytest.mark.parametrize(
    ("days", "words"),
    [(59, f"{NAME} retires on {{day}} (in 59 days)"), (61, None), (0, "its day has come")],
)
def test_a_model_that_retires_within_sixty_days_is_said_before_a_run(listing, days, words):
    day = today() + timedelta(days=days)
    server = listing({"data": [card(retires=day)]})
    ask_models.ask(found(server))
    config = config_of(
        technique="streaming", endpoint=server.url, models={"any": NAME}, quick=True, max_usd=9
    )
    text = estimate(config).text
    assert (words.format(day=day) in text) if words else ("retires" not in text)


def test_remarks_name_the_soonest_first():
    days = {"b": date(2026, 12, 9), "a": date(2026, 12, 4)}
    facts = [model_facts.ModelFacts(id=name, retires=day) for name, day in days.items()]
    told = model_facts.remarks(facts, date(2026, 12, 3))
    assert told == "a retires on 2026-12-04 (in 1 day); b retires on 2026-12-09 (in 6 days)"


def test_a_probe_shows_the_card_and_keeps_it(listing, capsys):
    server = listing({"data": [card(retires=today())]})
    main(["endpoints", "test", server.url, "--model", NAME, "--json"])
    rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)["checks"]}
    seen = rows["models"]["seen"]
    assert rows["models"]["supported"] and "effort low, high; thinking adaptive, bet" in seen
    assert seen.startswith(f"{NAME} retires on") and found(server).said_of(NAME)


def test_settings_say_what_a_gateway_can(monkeypatch):
    table = {"base_url": "https://gate.example", "api_key": "k", "large": "m", "can": ["threads"]}
    monkeypatch.setattr(registry.keys, "table", lambda name: {"mine": table})
    assert "threads" in registry.find("mine").capabilities
    table["can"] = ["everything"]
    with pytest.raises(registry.LabError, match="can of the endpoint 'mine'"):
        registry.find("mine")


def test_all_leaves_out_what_an_endpoint_cannot_do_and_says_why(monkeypatch, capsys):
    """On the embedded model nothing thinks: left out is no failure."""
    measured = []
    monkeypatch.setattr(run_commands, "_measure", lambda configs, _: measured.extend(configs) or 0)
    assert main(["all", "--quick", "--endpoint", "local"]) == 0
    told = capsys.readouterr().err
    assert "thinking is left out: local cannot do effort, thinking" in told
    assert "thinking" not in [config.technique for config in measured] and len(measured) > 3
    measured.clear()
    assert main(["all", "--quick", "--endpoint", "simulated"]) == 0
    assert {"thinking", "model-speed"} <= {config.technique for config in measured}
