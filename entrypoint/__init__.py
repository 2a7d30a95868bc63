"""The Python package that runs in the image: settings in, a complete Postfix out."""

__version__ = "0.1.0"
