"""Scripts that make or check files of the project, run as modules: ``python -m scripts.NAME``."""
