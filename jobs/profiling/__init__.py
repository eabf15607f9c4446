"""From facts to customer profiles: history of tags, moments of truth, pots of money."""

PROFILE_TABLES = ("customer_profile", "customer_tags", "customer_timeline", "investment_intents")
