"""The app kit for Python: a package, ready to be built as a wheel."""
