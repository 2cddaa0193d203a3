"""A level dealt out to several loaders: together they ask what one would."""

from __future__ import annotations

from dataclasses import replace

from lab.load.profile import WARM_UP, Level


def parts(level: Level, loaders: int, most: int | None = None) -> list[Level]:
    """One part for each loader, of fewer where there is not so much to do. Streams are dealt in
    turn, each with its plays and its start; plays of an open loop with their instants. Each loader
    warms up for itself. `most` is how many requests may be under way at once, over all of them.
    """
    if level.number == WARM_UP:
        return [level] * loaders
    if level.mode == "open":
        count = min(loaders, len(level.plays), most or loaders)
        return [
            replace(
                level,
                target=level.target / count,
                plays=level.plays[place::count],
                at_s=level.at_s[place::count],
            )
            for place in range(count)
        ]
    streams = min(int(level.target), len(level.plays))
    starts = level.at_s or tuple(place * level.over_s / streams for place in range(streams))
    count = min(loaders, streams)
    return [
        replace(
            level,
            target=len(range(place, streams, count)),
            plays=tuple(
                play for number, play in enumerate(level.plays) if number % streams % count == place
            ),
            at_s=starts[place::count],
        )
        for place in range(count)
    ]


def share(whole: int, place: int, count: int) -> int:
    """Of so many, dealt in turn: 7 to 3 are 3, 2 and 2."""
    return len(range(place, whole, count))
