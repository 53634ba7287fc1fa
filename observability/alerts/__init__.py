"""The alerts, by what they watch; `observability/rules.py` makes Prometheus's rules of them."""
