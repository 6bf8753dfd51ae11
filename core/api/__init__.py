"""What every HTTP API of ours shares."""
