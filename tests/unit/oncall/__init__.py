"""Tests of what a replica judges by its own figures."""
