"""What stays on disk between runs: finished stages (later: measurements)."""
