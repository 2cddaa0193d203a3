"""The ladder: the fastest stack of levers that keeps the quality bar, searched for and confirmed.
Nothing here opens a socket, reads a clock or knows a store; docs/ladder.md says the method."""
