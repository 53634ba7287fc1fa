"""How many examples of a property a run tries: few and always the same, or in the long form many at random."""

import os

import hypothesis

VARIABLE = "PROPERTY_EXAMPLES"
EXAMPLES = int(os.environ.get(VARIABLE, "30"))


def load_profile() -> None:
    """Set the number of examples of each property that states none. No result depends on the clock."""
    hypothesis.settings.register_profile(
        "tests", deadline=None, derandomize=VARIABLE not in os.environ, database=None, max_examples=EXAMPLES
    )
    hypothesis.settings.load_profile("tests")


def examples(share: float, **settings: object) -> hypothesis.settings:
    """Return the settings of a property that needs more than the usual examples, or can afford a share only."""
    return hypothesis.settings(max_examples=max(1, round(share * EXAMPLES)), **settings)
