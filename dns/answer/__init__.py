"""From RRsets to ready answers: wire bytes that need only the client's id and question; pure."""
