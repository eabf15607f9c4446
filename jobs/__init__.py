"""Dongcha: nightly conversation insight, from chat logs to customer profile tables."""

__version__ = "0.1.0"
