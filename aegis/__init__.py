"""Improves a harness, round by round, from what happened when it ran; ships only what is measured (paper §3)."""
