"""The dashboards as tables of panels. `make observability` generates Grafana's JSON from them."""
