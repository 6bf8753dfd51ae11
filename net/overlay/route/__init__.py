"""Routes of the overlay: values, the kernel's table and its memory twin."""
