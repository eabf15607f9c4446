"""Samples that stand for a population: a thing said often counts once, strata have shares, differences come first."""
