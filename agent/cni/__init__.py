"""The runtime side of CNI: configuration, plugins, results, state on disk (reference mesos §7)."""
