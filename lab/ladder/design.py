"""Which stacks to try first: two levels of each lever, so that each effect and each interaction of
two can be told from every other.

Full factorials up to four levers, then fractions of resolution V or more, in which no main effect
and no interaction of two is confused with another such (Box, Hunter & Hunter, Statistics for
Experimenters, 2nd ed. 2005, ch. 6 and table 6.22). Definitive screening (Jones & Nachtsheim 2011)
and Plackett-Burman plans need fewer trials and confuse interactions, which are what a stack is
about.
"""

from __future__ import annotations

from itertools import product
from math import prod

Configuration = tuple[int, ...]
"""The number of each lever's level; 0 is today's."""
GENERATORS: dict[int, tuple[tuple[int, ...], ...]] = {
    5: ((0, 1, 2, 3),),
    6: ((0, 1, 2, 3, 4),),
    7: ((0, 1, 2, 3, 4, 5),),
    8: ((0, 1, 2, 3), (0, 1, 4, 5)),
}
"""By the number of levers, of which of the others each of the last ones is the product."""
MOST_LEVERS = max(GENERATORS)


def size(levers: int) -> int:
    """How many stacks a plan for so many levers has."""
    return 2 ** (levers - len(GENERATORS.get(levers, ())))


def two_level(levers: int) -> list[Configuration]:
    """A plan's stacks, today's first; ValueError for more than MOST_LEVERS."""
    if levers > MOST_LEVERS:
        raise ValueError(f"no plan for {levers} levers")
    words = GENERATORS.get(levers, ())
    plan = []
    for free in product((0, 1), repeat=levers - len(words)):
        # The sign that puts today's stack into the fraction.
        others = [
            (1 + (-1) ** (len(word) + 1) * prod(2 * free[place] - 1 for place in word)) // 2
            for word in words
        ]
        plan.append((*free, *others))
    return plan
