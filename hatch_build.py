"""What the wheel depends on: requirements.txt, which pins, as ranges from the pinned release on."""

from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


def ranged(pin: str) -> str:
    """`pandas==3.1.1` as `pandas>=3.1.1,<4`; of what is still 0.x, the next 0.x may break it.

    A checkout runs what was tested, to the digit; a wheel shares its environment with the packages
    of whoever installs it, and pins would keep those from being installed at all.
    """
    requirement, semicolon, marker = pin.partition(";")
    name, _, release = requirement.strip().partition("==")
    first, second = [int(part) for part in release.split(".")[:2]]
    end = f"{first + 1}" if first else f"0.{second + 1}"
    return f"{name}>={release},<{end}{semicolon}{marker}"


class CustomMetadataHook(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        lines = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8").splitlines()
        metadata["dependencies"] = [ranged(line) for line in lines if line.strip()]
