"""Figures as SVG, drawn here: no library, no script needed to see them. Colours are classes that the page's style sheet fills in."""
