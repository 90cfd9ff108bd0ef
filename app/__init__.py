"""The Gradio app: read long documents, ask about them, and look into the memory that finds the answers."""
