"""Start the app: ``python app.py --help`` lists the options."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

# Before gradio is imported: it reads this once.
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from app import network
from app.settings import Settings, from_command_line, misspelt
from app.setup import Setup
from memlong.errors import MemLongError


def launch(settings: Settings, wait: bool = True) -> str:
    """Serve the page, load the model behind it, and return the address; ``wait`` blocks until the end.

    Raises:
        MemLongError: when nothing can listen on that address, or what an MCP server needs is not installed, or for a
            device that this machine does not have.
    """
    if settings.mcp and find_spec("mcp") is None:
        raise MemLongError(
            "--mcp without the package mcp", "It is an extra", "Run pip install 'mcp>=1.21,<2', or leave --mcp out"
        )
    Setup.from_settings(settings)  # refuses settings of the memory that make no sense, before anything is loaded
    settings.require_folders()
    settings.require_data_dir()
    network.require_free(settings.host, settings.port)
    network.past_proxies(settings.host, os.environ)
    import gradio

    from app import assistants, spaces, theme, uploads
    from app.build import build
    from app.context import App

    spaces.prepare()
    if settings.device not in ("auto", "cpu"):
        from memlong.hardware import resolve_device  # with it comes torch, which must not come before Spaces' package

        resolve_device(settings.device)
    app = App.make(settings)
    page = build(app)
    app.engine.start()
    uploads.tidy(gradio.route_utils)
    if settings.mcp:
        import gradio.mcp

        assistants.speak_plainly(gradio.mcp)
    try:
        _, address, _ = page.launch(
            server_name=settings.host, server_port=settings.port or None, share=settings.share,
            auth=settings.credentials, root_path=settings.root_path or None, mcp_server=settings.mcp,
            max_file_size=settings.upload_mb * 1_000_000, theme=theme.theme(), css=theme.css(),
            run_history=False, enable_monitoring=False, ssr_mode=False, pwa=False, footer_links=["api"],
            state_session_capacity=max(settings.sessions, 1), max_threads=4 * settings.sessions + 16,
            show_error=True, prevent_thread_lock=True,
            quiet=not settings.share,  # else it advises a public link, which this app has an option for
            # Gradio's look at its own page gives up for good after three seconds, which loading a model can take away.
            _frontend=False,
        )  # fmt: skip
    except OSError as error:
        raise network.cannot_listen(settings.host, settings.port) from error
    if not settings.share:
        print(f"Open {address} in a browser. Ctrl-C ends the app.", flush=True)
    if wait:
        try:
            page.block_thread()
        finally:
            app.visits.close_all()
    return str(address)


def main() -> int:
    """Run the command line; returns the exit status."""
    for line in misspelt(os.environ):
        print(line, file=sys.stderr)
    try:
        launch(from_command_line(sys.argv[1:], os.environ))
    except MemLongError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the page was up; afterwards it ends the waiting
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
