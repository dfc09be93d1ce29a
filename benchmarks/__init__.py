"""What recording costs, measured beside its peers. Run ``python -m benchmarks``; see ``benchmarks/README.md``."""
