"""Parts of `on_gpu.py`. All but `measure` and `run_tests`, which run in their own processes, use no other package."""
