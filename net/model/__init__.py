"""The cluster as a node sees it: objects and the View; pure."""
