"""Comparisons of models: a plan is run, and a report with statistics is made from its results."""
