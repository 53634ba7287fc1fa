"""The console: the pages that agents and engineers on call use in a browser, and their sign-in."""
