"""Container images: found in a directory of archives, extracted once, shared by containers."""
