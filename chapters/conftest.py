"""nbval runs every cell; this lets it pass over those tagged skip-execution."""

import pytest


def pytest_collection_modifyitems(items):
    """Skip cells that need a GPU or a network; nbval itself ignores the tag."""
    for item in items:
        cell = getattr(item, "cell", None)
        tags = cell["metadata"].get("tags", []) if cell else []
        if "skip-execution" in tags:
            need = "a GPU" if "gpu" in tags else "the network"
            item.add_marker(pytest.mark.skip(reason=f"this cell needs {need}"))
