"""From the View to the RRsets of every zone that we answer for; pure."""
