"""What `plan` is made of: measured rates, the forecast, its table."""
