"""The dashboard, told as tables of panels; `python -m grafana.generate` makes Grafana's JSON of them."""
