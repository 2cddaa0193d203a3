"""Your requests: whole Messages bodies of the user's own, compared as strictly as the lab's."""

from lab.techniques.your_requests import TECHNIQUE
from pages.parts import bodies, experiment, frame, views

with frame.titled(TECHNIQUE) as endpoint:
    experiment.show(
        TECHNIQUE,
        endpoint,
        views.named("Distribution", "Pairs", "Race", "Clocks"),
        form=bodies.form,
    )
