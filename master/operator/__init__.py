"""What operators and tools read, v1 and legacy."""
