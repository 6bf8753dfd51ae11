"""Kernel settings of one network namespace: /proc/sys/net and its memory twin."""
