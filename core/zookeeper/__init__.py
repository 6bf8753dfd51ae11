"""ZooKeeper: a session, and the store and the election on it."""
