"""The book: records, claims, experiments, notation and plots. The library is :mod:`cimlib`."""
