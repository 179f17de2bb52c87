"""Reads a labels folder with NumPy and safetensors:  python read_labels.py DIR"""
import json
import pathlib
import sys

import numpy as np
from safetensors.numpy import load_file

folder = pathlib.Path(sys.argv[1])
manifest = json.loads((folder / "manifest.json").read_text())
files = [load_file(folder / entry["file"]) for entry in manifest["files"]]
labels = {name: np.concatenate([file[name] for file in files]) for name in files[0]}
for name, values in labels.items():
    print(f"{name:17} {values.dtype!s:8} {values.shape}")
