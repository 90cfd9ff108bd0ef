"""Every limit on an uploaded document, in one place."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from memlong.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost. All values are positive; sizes are bytes, times are seconds.

    Raises:
        ConfigError: if a value is not positive.
    """

    file_bytes: int = 100_000_000
    """Size of the uploaded file."""
    characters: int = 20_000_000
    """Characters of text after parsing (a long novel has 3 million)."""
    pages: int = 20_000
    """Pages of a PDF."""
    members: int = 10_000
    """Files inside an EPUB or DOCX archive."""
    unpacked_bytes: int = 200_000_000
    """All files of an archive together, unpacked."""
    ratio: int = 100
    """Unpacked over packed size of one archive member; looked at above ``ratio_floor``."""
    ratio_floor: int = 8_000_000
    """Unpacked size up to which any ratio is harmless."""
    nesting: int = 2_000
    """Depth of nested elements in HTML or XML (the HTML parser is quadratic in it)."""
    memory_bytes: int = 2_000_000_000
    """Address space of the parsing process."""
    cpu_seconds: int = 60
    """Processor time of the parsing process."""
    wall_seconds: float = 120.0
    """Time from start to end of the parsing process."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ConfigError(
                    f"The document limit {name} is {value}", "Limits are above zero", "Give a larger value"
                )
