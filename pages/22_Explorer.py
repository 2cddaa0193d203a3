"""Explorer: the tables and views themselves, a query box that can only read, and files of any
result."""

from pages.parts import controls, explorer, frame

with frame.open_page(
    "Explorer", "Every timing row is yours: look it up, ask it in SQL, take it with you."
):
    tables = "Tables"
    if controls.segments("What", [tables, "SQL"], "what") == tables:
        explorer.tables()
    else:
        explorer.query()
