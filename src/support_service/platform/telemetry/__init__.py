"""Telemetry of the service: instruments and their labels, the meter provider, request metrics, traces and logs."""
