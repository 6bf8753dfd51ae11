"""From JSON to app definitions and back."""
