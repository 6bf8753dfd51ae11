"""Netlink by the built-in modules alone: for processes that live a few milliseconds."""
