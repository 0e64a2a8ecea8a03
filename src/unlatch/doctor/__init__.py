"""``unlatch doctor``: does the whole way work, before somebody needs it at night?"""
