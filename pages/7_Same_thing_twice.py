"""Same thing twice: the control that shows what a difference of nothing looks like here."""

from lab.techniques.same_thing_twice import TECHNIQUE
from pages.parts import experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(TECHNIQUE, endpoint, views.named("Distribution", "Pairs"))
