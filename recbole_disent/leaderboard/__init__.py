"""Comparisons: plan -> runs -> statistics -> report."""
