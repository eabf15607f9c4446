"""The LLM: serving profiles, weights, server, client, prompts."""
