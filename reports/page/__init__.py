"""Self-contained HTML pages: data in Python files, markup, styles and scripts in ``templates/``."""
