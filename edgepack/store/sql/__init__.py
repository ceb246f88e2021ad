"""How the results store keeps runs in a database: its tables, its migrations, writing and reading. `store/results.py` is the way in."""
