"""The pages: one file a tab, with the layout (``build``), the events (``wire``), and small handlers.

What a handler decides is in plain functions (``app.reading``, ``app.asking``) that need no page.
"""
