"""What every run's page is made of."""
