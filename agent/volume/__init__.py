"""Volumes of containers: of the host, of sandboxes, of images, secret ones, persistent ones."""
