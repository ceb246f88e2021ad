"""The build's verbs: load, baseline, compress, export, verify, bundle. One file each, typed in and out, each result kept in the stage cache."""
