"""The software under the SpeechLM Playbook.

One module a concept; a chapter of the book builds each. Nothing is imported
here, so that ``python -m speechlm_lab`` starts with the standard library alone
and can set the environment up.
"""

__version__ = "0.1.0"
