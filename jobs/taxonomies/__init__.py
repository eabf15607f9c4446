"""The life of a taxonomy: versions, proposals, a person's decision, and what it moves."""
