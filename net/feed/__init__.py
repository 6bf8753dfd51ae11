"""How the View travels: records, the sending end, the receiving end."""
