"""Home: what has been found so far, in one picture; for a newcomer, three steps to the first finding."""

from pages.parts import frame, home

with frame.open_page(frame.PRODUCT, "Which latency technique helps your workload, by how much, at what price, and can you believe it?"):
    home.show_steps()
    home.show_finds()
    home.show_latest()
