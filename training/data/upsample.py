"""Per-source length-upsampling of a stream: long documents make up a given share of every part of a source.

The parts keep their own sizes relative to each other. Source: Fu et al., Data Engineering for Scaling Language
Models to 128K Context (arXiv 2402.10171), which resamples; a stream is thinned instead, which needs one pass.
"""

from __future__ import annotations

_SLACK = 1.1  # a part may be ahead of its share by so much


class LengthUpsampler:
    """Says of each document of a stream whether it is kept; the same stream gives the same answers.

    Args:
        long_tokens: length from which a document is long; 0 keeps everything.
        long_share: share of kept tokens that long documents make up at least, in every part.
    """

    def __init__(self, long_tokens: int, long_share: float) -> None:
        self.long_tokens, self.long_share = long_tokens, long_share
        self.counts: dict[str, dict[str, int]] = {}
        """Tokens by part: seen, kept of long documents, kept of short ones."""

    def takes(self, part: str, tokens: int) -> bool:
        """Count a document of a part and say whether it is kept."""
        if not self.long_tokens:
            return True
        mine = self.counts.setdefault(part, {"seen": 0, "long": 0, "short": 0})
        mine["seen"] += tokens
        if self._ahead(mine):
            return False
        if tokens >= self.long_tokens:
            mine["long"] += tokens
            return True
        if (mine["short"] + tokens) * self.long_share > mine["long"] * (1 - self.long_share):
            return False
        mine["short"] += tokens
        return True

    def _ahead(self, mine: dict[str, int]) -> bool:
        """Whether a part has more of what was kept than it has of what was seen."""
        seen = sum(part["seen"] for part in self.counts.values())
        kept = sum(part["long"] + part["short"] for part in self.counts.values())
        own = mine["long"] + mine["short"]
        return own * seen > _SLACK * mine["seen"] * kept and len(self.counts) > 1
