"""Exercise checkers: ``check.name(your_function)`` says in words what is wrong.

Each chapter's checkers live in ``check/chapter_NN.py``; all of them are found here,
by name. How to write one: see `speechlm_lab.check.core`.
"""

import pkgutil
from importlib import import_module

from speechlm_lab.check.core import Report

__all__ = ["Report"]

for _module in pkgutil.iter_modules(__path__):
    if _module.name.startswith("chapter_"):
        _found = import_module(f"{__name__}.{_module.name}")
        for _name in _found.__all__:
            if _name in __all__:
                raise ImportError(f"two exercises have the same checker name: {_name}")
            globals()[_name] = getattr(_found, _name)
            __all__.append(_name)
