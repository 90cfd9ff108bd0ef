"""Uploads that break off: nothing of them stays, on the disk or in the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect


def tidy(routes: Any) -> None:
    """Have a server clean up after senders who go away in the middle, from now on.

    Args:
        routes: gradio's ``route_utils``, whose own parser of uploads leaves their files behind.
    """
    if not hasattr(routes, "GradioMultiPartParser"):
        return  # another gradio, which has to tidy up by itself

    class TidyParser(routes.GradioMultiPartParser):  # type: ignore[misc]
        async def parse(self) -> Any:
            try:
                return await super().parse()
            except ClientDisconnect as error:
                for file in getattr(self, "_files_to_close_on_error", ()):
                    file.close()
                    Path(file.name).unlink(missing_ok=True)
                # As for every upload that cannot be taken; nobody is there to read it.
                raise MultiPartException("The upload broke off") from error

    routes.GradioMultiPartParser = TidyParser
