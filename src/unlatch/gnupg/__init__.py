"""GnuPG's agent, its keys and its cards: our own clients of them. Standard library only, cheap to import."""
