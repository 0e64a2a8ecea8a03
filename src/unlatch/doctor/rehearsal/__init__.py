"""``unlatch doctor --rehearse``: lock, ring, unlock, prove; with the real key or card, while somebody watches."""
