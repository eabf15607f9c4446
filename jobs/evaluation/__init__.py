"""Measuring Dongcha on labelled data that people bring."""
