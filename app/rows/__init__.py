"""Plain rows for the views, made from trace events: no torch, no gradio, no HTML.

Titles, questions and texts in them are a stranger's: whoever makes HTML of them escapes them.
"""
