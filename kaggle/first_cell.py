# On Kaggle this installs the package, offline from an attached bundle or else by pip; the image's torch stays. Elsewhere `make lab` did it.
import glob
import importlib.metadata
import importlib.util
import os
import subprocess
import sys

if importlib.util.find_spec("ittybitty") is None:
    mounts = os.environ.get("ITTYBITTY_KAGGLE_ROOT", "/kaggle") + "/input"
    wheels = glob.glob(f"{mounts}/*/ittybitty-*.whl") + glob.glob(f"{mounts}/datasets/*/*/ittybitty-*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", f"torch=={importlib.metadata.version('torch')}"]
    if wheels:
        bundle = os.path.dirname(wheels[0])
        subprocess.run([*pip, "--no-index", f"--find-links={bundle}", "ittybitty"], check=True)
        for kernels in glob.glob(f"{bundle}/mamba_ssm-*.whl"):  # CUDA kernels, where the bundle was given them
            subprocess.run([*pip, "--no-index", "--no-deps", kernels], check=True)
    else:
        subprocess.run([*pip, "git+https://github.com/ittybitty-piano/ittybitty@v0.2.0"], check=True)
    print("ittybitty installed", "offline, from the attached bundle" if wheels else "by pip, from GitHub")
