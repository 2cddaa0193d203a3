"""Side by side: stored runs beside each other, and arms of any techniques in one paired run."""

from pages.parts import controls, frame, side_by_side

CLAIM = (
    "Runs, models and endpoints beside each other; or arms of any techniques in one run, block by"
    " block."
)

with frame.open_page("Side by side", CLAIM, endpoint=True) as endpoint:
    stored, paired = "Stored runs", "One paired run"
    if controls.segments("What", [stored, paired], "what") == stored:
        side_by_side.stored()
    else:
        side_by_side.paired(endpoint)
