"""What earlier nights found out about the labellers, read back."""

from __future__ import annotations

import pytest

from jobs.labelling.standing import standing
from jobs.settings import Settings
from jobs.storage import Tables
from tests.night_facts import DS, TAGS, Facts

LATER = "2026-11-21"


@pytest.mark.spark
def test_as_the_newest_night_left_it(tables: Tables, settings: Settings) -> None:
    """By the facts every fourth tag is trusted, `retirement` is promised alone, `growth` with the LLM."""
    fixed = settings.label.model_copy(update={"unsure_low": 0.3, "unsure_high": 0.6})
    proven = fixed.model_copy(update={"band": "proven"})
    assert standing(tables, DS, TAGS, proven).llm_tags == frozenset(TAGS)  # no night has compared them
    Facts(conversations=12).write_to(tables)
    trusted = {tag for n, tag in enumerate(TAGS) if n % 4 == 0}
    found = standing(tables, DS, TAGS, fixed)
    assert found.llm_tags == trusted | {"growth"} and found.measured_on == DS
    assert found.whole == trusted - {"retirement", "growth"}  # promised tags keep to their thresholds
    free = TAGS.index("complaint")
    assert (found.bands.low[free], found.bands.high[free]) == (0.3, 0.6)
    found = standing(tables, DS, TAGS, proven)
    assert (found.bands.low[free], found.bands.high[free]) == (0.2, 0.8)  # as the night chose it
    # A night on which the LLM decided nothing has chosen nothing.
    Facts(ds=LATER, llm_scores=False, conversations=12).write_to(tables)
    found = standing(tables, LATER, TAGS, proven)
    assert found.whole == frozenset() and found.llm_tags == {"growth"}
    assert (found.bands.low[free], found.bands.high[free]) == (0.3, 0.6)
