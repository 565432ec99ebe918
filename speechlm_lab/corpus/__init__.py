"""Corpora: recordings with labels, behind one interface, the `Item`."""

from .items import Item, Span

__all__ = ["Item", "Span"]
