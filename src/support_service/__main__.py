"""Runs `support-service` for `python -m support_service`."""

from support_service.cli import main

if __name__ == "__main__":  # pragma: no branch - nothing imports this module
    main()
