"""Points at which tests kill the service, and how many."""

import os
import sys

KILLS = int(os.environ.get("CRASH_KILLS", "0"))  # per scenario; 0 is the short form
RUN_TIMEOUT = 120.0  # seconds for one run, on a busy machine


def print_figures(line):
    """Print a line of figures, the result of a long form."""
    sys.stdout.write(f"\n{line}\n")


def spread(executed, number):
    """Return this number of points, spread evenly over all steps in order of execution, and over loops."""
    return [stretch[0] for stretch in stretches(executed, number)]


def stretches(executed, number):
    """Divide all points into this number of parts, whose first points are spread evenly."""
    points = [(line, 1) for line in executed] + [
        (line, (times + 1) // 2) for line, times in executed.items() if times > 2
    ]
    number = min(number, len(points))
    return [points[index * len(points) // number : (index + 1) * len(points) // number] for index in range(number)]
