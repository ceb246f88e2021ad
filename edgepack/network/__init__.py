"""The live network: a `Model` in memory, its NNCF hooks, its graph, its training. Sources make it, exporters read it."""
