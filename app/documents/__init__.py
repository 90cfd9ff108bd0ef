"""Files from people to text with places: ``read_document(path, name)`` reads every format of the registry."""

from app.documents.document import Document, read_document
from app.documents.limits import Limits
from app.documents.registry import EXTENSIONS, FORMATS

__all__ = ["EXTENSIONS", "FORMATS", "Document", "Limits", "read_document"]
