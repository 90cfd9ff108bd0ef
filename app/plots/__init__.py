"""Pictures: rows in, plotly figure out. Pure functions; no gradio, no trace, no session."""
