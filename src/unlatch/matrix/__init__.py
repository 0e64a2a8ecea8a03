"""Matrix, end to end encrypted: the optional extra ``unlatch[matrix]``.

What decides and what encrypts knows no sockets, files or clocks: ``canonical``, ``identity``, ``crypto``, ``sas`` and
the files they are made of. ``store`` keeps the state on disk; the HTTP client around all that lives beside them.
"""
