"""What `import lieq` of an installed wheel must do: under_qemu runs it.

usage: try_wheel.py SAMPLE QUANTIZED SITE      a model, what was made of it at 4 bits, where pip installed
"""

import pathlib
import platform
import sys

import lieq

sample, quantized, site = sys.argv[1:]
weight = lieq.open(quantized).linear(0, "down")
assert weight.bits == 4 and weight.codes().max() < 16, weight
difference = abs(weight.values() - lieq.open(sample).linear(0, "down").values()).max()
assert 0 < difference < 0.5, difference
assert lieq.inspect(quantized)["kind"], "no record"

mapped = {line.split()[-1] for line in open("/proc/self/maps") if ".so" in line}
libraries = sorted(pathlib.Path(path).name for path in mapped if "openblas" in path or "fmt" in path)
ours = [path for path in mapped if "lieq.libs" in path]
assert any("openblas" in path for path in ours) and any("fmt" in path for path in ours), mapped
info = next(pathlib.Path(site).glob("lieq-*.dist-info"))
for name in ("LICENSE", "THIRD_PARTY_LICENSES.md", "LIBRARIES.txt", "libopenblas0-pthread.txt"):
    assert any(path.stat().st_size for path in info.rglob(name)), name
try:
    lieq.inspect("owner/name")
except lieq.Error as error:
    assert "hf download owner/name" in error.hint, error
else:
    raise SystemExit("a name on the hub was opened without the extra")
print("import lieq:", lieq.__version__, "in Python", sys.version.split()[0], "on", platform.machine(), libraries)
