"""The tag quality report: what a night's tags are worth, on one page."""
