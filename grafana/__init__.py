"""The dashboard as tables of panels; `python -m grafana.generate` generates Grafana's JSON from them."""
