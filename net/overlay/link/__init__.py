"""The VXLAN link: its value, the kernel's and its memory twin."""
