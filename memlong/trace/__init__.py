"""The trace: what happened in a session, in order. Every picture of a session is drawn from it.

Events are plain frozen dataclasses (``events``), collected by a recorder (``recorder``) and turned back into
the state of the bank at any step (``replay``). Standard library only.
"""
