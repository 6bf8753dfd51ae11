"""Health checks that Marathon runs itself."""
