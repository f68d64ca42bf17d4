"""The offline demo: a front desk that books meeting rooms under a dozen house rules. `python -m leyden.demo` runs it."""
