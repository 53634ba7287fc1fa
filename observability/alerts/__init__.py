"""Tables of alerts by area; `observability/rules.py` generates Prometheus's rules from them."""
