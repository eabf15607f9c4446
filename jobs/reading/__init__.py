"""Reading numbers, money, dates and attitudes off what customers say, by rules."""
