"""``unlatch setup``: from an installed package to the first ring, and back again byte for byte."""
