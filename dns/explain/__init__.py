"""Why a name has the answer that it has: for people."""
