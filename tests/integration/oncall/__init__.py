"""Tests of on-call's verdict against a real service, its real dependencies and real faults."""
