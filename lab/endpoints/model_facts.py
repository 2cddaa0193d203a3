"""What an endpoint has said of its models in GET /v1/models (ask_models.py asks it): kept by its
base URL in models.json of the user's settings, so that nobody has to ask again within the hour.

Where an endpoint does not answer, or says nothing of a model, the registry's defaults hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from lab import scrub
from lab.endpoints import keys, settings_files

FILE = "models.json"
ADAPTIVE = "adaptive"
FRESH = timedelta(hours=1)
SILENT = timedelta(minutes=10)
"""So long an endpoint is left alone that did not answer."""
MOST = 1000
"""Models of one endpoint: one page of the list."""
SOON = timedelta(days=60)


class ModelFacts(BaseModel):
    """One card, as far as the lab uses it; what a card does not say is None."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    lifecycle: str | None = None
    retires: date | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    """The most that max_tokens may be."""
    efforts: tuple[str, ...] | None = None
    thinking: tuple[str, ...] | None = None
    """The `thinking.type`s that are accepted."""
    structured: bool | None = None

    @property
    def can(self) -> dict[str, bool]:
        """By the registry's names of capabilities what the card says; what it leaves open is not
        there. `thinking` is that the model decides by itself how much it thinks."""
        thinks = None if self.thinking is None else ADAPTIVE in self.thinking
        efforts = None if self.efforts is None else bool(self.efforts)
        said = {"effort": efforts, "thinking": thinks, "structured": self.structured}
        return {name: value for name, value in said.items() if value is not None}

    def soon(self, today: date) -> bool:
        """Whether it retires within 60 days, or should have."""
        return self.retires is not None and self.retires - today <= SOON

    @property
    def words(self) -> str:
        """ "effort low, high; thinking adaptive; 200,000 tokens in; 64,000 out"."""
        parts = []
        if self.efforts is not None:
            parts.append(f"effort {', '.join(self.efforts) or 'none'}")
        if self.thinking is not None:
            parts.append(f"thinking {', '.join(self.thinking) or 'none'}")
        if self.input_tokens:
            parts.append(f"{self.input_tokens:,} tokens in")
        if self.output_tokens:
            parts.append(f"{self.output_tokens:,} out")
        if self.retires:
            parts.append(f"retires on {self.retires}")
        return "; ".join(parts) or "its card says nothing"


def of_card(card: Any) -> ModelFacts | None:
    """The facts of an item of the list, as the API (anthropic.types.ModelInfo) or a gateway writes
    it; None where it has no name."""
    if not isinstance(card, dict) or not isinstance(card.get("id"), str):
        return None
    can = card.get("capabilities")
    can = can if isinstance(can, dict) else {}
    thinking = can.get("thinking")
    structured = can.get("structured_outputs")
    structured = structured.get("supported") if isinstance(structured, dict) else None
    return ModelFacts(
        id=scrub.text(card["id"], scrub.WORD),
        lifecycle=_word(card.get("lifecycle")),
        retires=_day(card.get("retires_at")),
        input_tokens=_count(card.get("max_input_tokens")),
        output_tokens=_count(card.get("max_tokens")),
        efforts=_supported(can.get("effort")),
        thinking=_supported(thinking.get("types")) if isinstance(thinking, dict) else None,
        structured=structured if isinstance(structured, bool) else None,
    )


def _supported(parts: Any) -> tuple[str, ...] | None:
    """The names of what is supported, of a mapping of name to {"supported": true}; None where it
    names nothing, unless it says by itself that it is not supported."""
    if not isinstance(parts, dict):
        return None
    named = [(name, part) for name, part in list(parts.items())[:40] if isinstance(part, dict)]
    if not named and parts.get("supported") is not False:
        return None
    return tuple(_word(name) for name, part in named if part.get("supported") is True)


def _word(value: Any) -> str | None:
    return scrub.text(value, 40) if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 < value < 2**53 else None


def _day(value: Any) -> date | None:
    try:
        return datetime.fromisoformat(value).date()
    except (TypeError, ValueError):
        return None


def known(base_url: str) -> dict[str, ModelFacts]:
    """What an endpoint has said of its models, by their names; reads a file and asks nobody."""
    cards, facts = _entry(base_url).get("models"), {}
    for card in cards if isinstance(cards, list) else ():
        try:
            each = ModelFacts.model_validate(card)
        except ValidationError:
            continue
        facts[each.id] = each
    return facts


def _entry(base_url: str) -> Mapping[str, Any]:
    entry = settings_files.read(FILE).get(keys.base_url(base_url)) if base_url else None
    return entry if isinstance(entry, dict) else {}


def is_due(base_url: str, now: datetime) -> bool:
    """Whether the endpoint is to be asked: not within the last hour, nor the last ten minutes where
    it did not answer."""
    entry = _entry(base_url)
    try:
        asked = datetime.fromisoformat(entry["asked_utc"])
        return now - asked > (FRESH if entry.get("answered") else SILENT)
    except (KeyError, TypeError, ValueError):
        return True


def keep(base_url: str, cards: list[Any] | None, asked_utc: datetime) -> None:
    """What an endpoint answered, None where it did not; then what it said before stays. LabError
    where it cannot be kept."""
    facts = [fact for card in (cards or ())[:MOST] if (fact := of_card(card))]
    said = [fact.model_dump(mode="json", exclude_none=True) for fact in facts]
    entry = {
        "asked_utc": asked_utc.isoformat(),
        "answered": cards is not None,
        "models": said or _entry(base_url).get("models") or [],
    }
    every = {**settings_files.read(FILE), keys.base_url(base_url): entry}
    settings_files.write(FILE, every, "What this endpoint says of its models")


def remarks(facts: Iterable[ModelFacts], today: date) -> str:
    """Which of the models retire soon, in a sentence; empty where none does."""
    soon = sorted({(fact.retires, fact.id) for fact in facts if fact.soon(today)})
    told = []
    for retires, name in soon:
        days = (retires - today).days
        when = f"in {days} day{'s' * (days != 1)}" if days > 0 else "its day has come"
        told.append(f"{name} retires on {retires} ({when})")
    return "; ".join(told)
