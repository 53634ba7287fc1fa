"""`python -m support_service` is `support-service`."""

from support_service.cli import main

if __name__ == "__main__":
    main()
