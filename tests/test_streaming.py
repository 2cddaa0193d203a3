from lab import techniques
from lab.techniques.streaming import TECHNIQUE


def test_any_spelling_finds_it():
    assert techniques.find("Streaming") is TECHNIQUE and techniques.slug_of("no-such") is None
    assert techniques.slugs()[0] == "streaming"


def test_the_first_arm_is_the_baseline_and_the_headline_is_the_felt_wait():
    assert [arm.name for arm in TECHNIQUE.arms] == ["whole", "streamed"]
    assert (TECHNIQUE.headline, TECHNIQUE.headline_arm) == ("wait_ms", "streamed")
