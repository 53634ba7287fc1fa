"""A day of a team of eight and its customers, against a model that predicts every list."""
