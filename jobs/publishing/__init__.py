"""Bringing rows into the CRM's database: connection and lock, staging, merge."""
