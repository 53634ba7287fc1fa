"""The alert drill: inject one fault after another into a whole deployment, with Prometheus and Alertmanager.

The faults are declared by the signals in observability/, whose waits and sizes it divides; see observability/drill.py.
"""
