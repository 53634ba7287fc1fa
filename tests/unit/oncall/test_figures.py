"""Old samples are thinned out: what is kept is what was sampled, and needs as little memory as it says."""

import random

from support_service.oncall.figures import Figures

EVERY, FINE, STEP, KEEP = 15, 360, 60, 7200  # seconds


def test_thinned_samples_are_those_of_their_times():
    """Of a counter, of a series that comes and goes, and of one that never changes."""
    draw = random.Random(7)
    thinned, whole = Figures(KEEP, fine=FINE, step=STEP), Figures()
    for number in range(3 * KEEP // EVERY):
        at = 1000.0 + number * EVERY + draw.uniform(-3, 3)
        values = {"counter": float(number), "constant": 1.0} | ({"guest": draw.random()} if draw.random() < 0.5 else {})
        for figures in (thinned, whole):
            figures.advance(at)
            figures.add(at, "up", [({"name": name}, value) for name, value in values.items()])
    kept = {*thinned.times}
    assert len(kept) <= FINE / EVERY + KEEP / STEP + 4
    for few, all_of_it in zip(thinned.select("up"), whole.select("up"), strict=True):
        points = whole.points(all_of_it, thinned.times[0], at)
        assert thinned.points(few, thinned.times[0], at) == [point for point in points if point[0] in kept]
        assert len(few.changed_at) <= len(kept) + 1
