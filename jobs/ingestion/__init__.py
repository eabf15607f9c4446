"""What the ingest stage is made of: sources, records, identities."""
