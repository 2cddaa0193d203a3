"""What each technique would be worth in a recording, with its assumption."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.recording.facts import Worth

if TYPE_CHECKING:
    from lab.recordings import Recording


def of(recording: Recording) -> list[Worth]:
    """The most seconds first."""
    raise NotImplementedError
