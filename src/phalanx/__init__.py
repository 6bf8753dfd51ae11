"""Root of the import namespace; each component is linked in from the top level."""
