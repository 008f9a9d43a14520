"""Put on PYTHONPATH, it makes a Python that has what a rented GPU machine has: torch, triton, numpy, safetensors, tqdm, and no more."""

import sys

# torch itself needs those of the last line
THERE = {"torch", "torchgen", "functorch", "triton", "numpy", "safetensors", "tqdm", "ittybitty"} | {
    "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "filelock", "setuptools",
}  # fmt: skip  # torch's own needs in a line of their own


class Without:
    """A finder that finds only what is there."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        """As the finder says; None for packages that such a machine lacks."""
        top = name.partition(".")[0]
        there = top in sys.stdlib_module_names or top in THERE or top.startswith("_")
        return self.finder.find_spec(name, path, target) if there else None

    def __getattr__(self, name):
        return getattr(self.finder, name)


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
