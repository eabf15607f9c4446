"""From facts to customer profiles: history of tags, moments of truth, pots of money."""
