"""Induction: a proposed taxonomy from conversations nobody has tagged."""
