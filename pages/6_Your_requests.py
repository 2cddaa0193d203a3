"""Your requests: whole Messages bodies of the user's own, compared as strictly as the lab's."""

from lab.techniques.your_requests import TECHNIQUE
from pages.parts import experiment, your_bodies

experiment.page(TECHNIQUE, your_bodies.form)
