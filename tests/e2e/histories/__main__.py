"""Check histories of clients for minutes, while parts of the deployment fail: `make histories`.

Each round has a seed, clients, faults and checks, and prints a line. A wrong history prints its smallest wrong part,
and the seed that repeats the choices of its round. Answers depend on the moment: a repeat may need more than one try.
"""

import argparse
import sys

from tests.long import LONG, long


def main() -> int:
    """Run the long form; return the exit status, 1 if a history was wrong."""
    parser = argparse.ArgumentParser(
        prog="make histories", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        *("--minutes", "-m"),
        type=float,
        default=LONG["histories"].variables["HISTORY_MINUTES"],
        help="minutes on each database (default: %(default)s); the round that runs then is finished",
    )
    parser.add_argument("--seed", default="36", help="of the first round (default: %(default)s)")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), help="only this one")
    given = parser.parse_args()
    options = ("-k", given.database) if given.database else ()
    form = long("e2e/histories", options=options, HISTORY_MINUTES=given.minutes, HISTORY_SEED=given.seed)
    return 0 if form.run() else 1


if __name__ == "__main__":
    sys.exit(main())
