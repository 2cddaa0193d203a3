"""Noise floor: what the instrument can see on this machine, and what two identical arms look
like."""

from pages.parts import frame, own_error

CLAIM = (
    "A difference smaller than the instrument's own error is no finding. Calibration holds the"
    " harness's stamps against known times."
)

with frame.open_page("Noise floor", CLAIM):
    own_error.calibration()
    own_error.control()
