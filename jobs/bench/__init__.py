"""Benchmarks of the LLM client: against the server's limit, and against the naive way."""
