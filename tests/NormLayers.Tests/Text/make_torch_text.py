"""Writes torch_text.json: what PyTorch prints for tensors and Python for floats. Run with Python 3 and PyTorch.

The stored file was made with PyTorch 1.13.1. Its one difference from 2.x that shows here is patched below: 2.x pads to the
widths of the mode that set_printoptions(sci_mode=...) forces, 1.13 to the widths of the mode it would have chosen.
"""
import base64
import json
import math
import os
import random
import struct

import torch
from torch import _tensor_str

torch.manual_seed(20)
random.seed(20)
F = _tensor_str._Formatter
chosen_init = F.__init__


def forced_init(self, tensor):
    chosen_init(self, tensor)
    if _tensor_str.PRINT_OPTS.sci_mode is None or not self.floating_dtype:
        return
    values = [v for v in tensor.double().reshape(-1).tolist() if math.isfinite(v) and v != 0]
    if not values:
        return
    self.max_width = 1
    self.max_width = max(len(self.format(v)) for v in values)


F.__init__ = forced_init

cases = []
dtypes = {torch.float32: "f4", torch.float64: "f8", torch.float16: "f2", torch.bfloat16: "bf", torch.int64: "i8",
          torch.int32: "i4", torch.int16: "i2", torch.int8: "i1", torch.uint8: "u1", torch.bool: "b1"}


def add(name, tensor, parameter=False, **options):
    raw = tensor.contiguous()
    raw = raw.view(torch.int16) if raw.dtype is torch.bfloat16 else raw
    torch.set_printoptions(profile="default")
    torch.set_printoptions(**options)
    text = repr(torch.nn.Parameter(tensor) if parameter else tensor)
    torch.set_printoptions(profile="default")
    cases.append({"name": name, "dtype": dtypes[tensor.dtype], "shape": list(tensor.shape), "options": options,
                  "parameter": parameter, "data": base64.b64encode(raw.numpy().tobytes()).decode(), "text": text})


inf, nan = math.inf, math.nan
T = torch.tensor
for shape in [(1,), (2,), (3,), (10,), (27,), (100,), (1, 1), (2, 3), (3, 1), (1, 4, 5, 5), (2, 3, 4), (2, 1, 3, 1),
              (2, 2, 2, 2, 2), (1, 1, 1, 1, 1, 2), (5, 30), (2, 11, 12)]:
    add(f"randn {shape}", torch.randn(shape))
    add(f"randn f64 {shape}", torch.randn(shape, dtype=torch.float64) * 37)
for shape in [(0,), (0, 3), (3, 0), (2, 0, 4), (1, 0)]:
    add(f"empty {shape}", torch.zeros(shape))
    add(f"empty i64 {shape}", torch.zeros(shape, dtype=torch.int64))
    add(f"empty f16 {shape}", torch.zeros(shape, dtype=torch.float16))
add("empty bool", torch.zeros((0,), dtype=torch.bool))
for dtype in [torch.float16, torch.bfloat16, torch.float64]:
    for n in [1, 4, 8, 9, 10, 40]:
        add(f"randn {dtype} {n}", torch.randn(n).to(dtype))
    add(f"randn {dtype} 3x7", torch.randn(3, 7).to(dtype))
    add(f"whole {dtype}", torch.arange(6).to(dtype).reshape(2, 3))
for dtype in [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]:
    add(f"ints {dtype}", torch.arange(12).to(dtype).reshape(3, 4))
    add(f"limits {dtype}", T([torch.iinfo(dtype).min, 0, torch.iinfo(dtype).max], dtype=dtype))
    add(f"many ints {dtype}", torch.randint(0, 120, (60,)).to(dtype))
add("bools", T([[True, False], [False, True]]))
add("all true", T([True, True]))
add("false", T([False]))
add("many bools", torch.arange(30) % 3 == 0)
add("huge bools", torch.ones(1200, dtype=torch.bool))

for name, values in {
    "one": [5.0], "whole": [0.0, 1.0, 2.0], "negative zero": [-0.0, 1.0, 0.0], "negative zero alone": [-0.0],
    "negative zero fixed": [-0.0, 1.5], "negative rounding to zero": [-0.0004, 0.25], "zeros": [0.0, 0.0],
    "nan": [nan], "nan whole": [nan, 1.0], "nan fixed": [nan, 1.25, -2.5], "inf": [inf, -inf], "inf whole": [inf, 12.0, -inf],
    "inf fixed": [-inf, 0.5], "inf scientific": [inf, -inf, nan, 1e-7, 0.0, -0.0], "all special": [inf, nan, -0.0, 0.0],
    "ratio at 1000": [0.5, 500.0], "ratio past 1000": [0.5, 500.5], "whole ratio at 1000": [1.0, 1000.0],
    "whole ratio past": [1.0, 1001.0], "max at 1e8": [1e8], "max past 1e8": [100000008.0], "min at 1e-4": [1e-4, 2e-4],
    "min below": [0.99e-4], "tiny": [1e-45, 1e-38], "large": [3.4e38], "wide whole": [99999.0, -123456.0],
    "negatives": [-1.5, -22.25, 3.0], "ties": [0.03125, 0.00015, 2.00005, 0.09375], "sci ties": [1000000.5, 1.00005, 0.5],
    "carry": [9.99996, 0.5], "sci carry": [99999.6, 1.5], "powers": [2.0 ** -k for k in range(20)],
}.items():
    add(name, T(values))
    add(name + " f64", T(values, dtype=torch.float64))
add("f64 extremes", T([1e300, 5e-324, -1.7976931348623157e308], dtype=torch.float64))
add("f64 three digits of exponent", T([1e-100, 1.0, 2.5], dtype=torch.float64))
add("f16 subnormal", T([6e-8, 65504.0], dtype=torch.float16))

add("summary 1001", torch.arange(1001))
add("no summary 1000", torch.arange(1000) % 7)
add("summary floats", torch.arange(1200.0))
add("summary fixed", torch.linspace(-3, 3, 1500))
add("summary 2d", torch.linspace(0, 9, 1600).reshape(40, 40))
add("summary 2d short rows", torch.linspace(0, 9, 1200).reshape(200, 6))
add("summary 2d few rows", torch.linspace(0, 9, 1200).reshape(4, 300))
add("summary 4d", torch.arange(2 * 9 * 8 * 8).reshape(2, 9, 8, 8).float() / 8)
add("summary f64", torch.linspace(0, 9, 1100, dtype=torch.float64))
hidden = torch.ones(2000)
hidden[1000] = 1e-20
add("summary hides the extreme", hidden)

base = torch.linspace(-2, 2, 60)
add("precision 2", base, precision=2)
add("precision 0", T([2.5, 3.5, -0.5]), precision=0)
add("precision 8", base[:9], precision=8)
add("line width 40", base, linewidth=40)
add("line width 1", base[:3], linewidth=1)
add("line width 10 suffix", base[:3].double(), linewidth=10)
add("threshold 5", torch.arange(10), threshold=5)
add("edge items 1", base.reshape(6, 10), threshold=5, edgeitems=1)
add("edge items 4", base.reshape(3, 20), threshold=5, edgeitems=4)
add("edges as long as the row", torch.arange(12).reshape(2, 6), threshold=5)
add("forced scientific", base[:7], sci_mode=True)
add("forced scientific whole", torch.arange(5.0), sci_mode=True)
add("forced fixed", T([1e-7, 1.0, 1e5]), sci_mode=False)
add("forced fixed whole", T([1.0, 1e9]), sci_mode=False)
add("forced without values", T([0.0, nan]), sci_mode=True)
add("forced on ints", torch.arange(3), sci_mode=True)
add("parameter", torch.ones(4), parameter=True)
add("parameter 2d", torch.randn(2, 3), parameter=True)
add("parameter f16", torch.ones(12).half(), parameter=True)
add("parameter f64 long", torch.randn(8, dtype=torch.float64), parameter=True)
add("parameter empty", torch.ones(0, 2), parameter=True)
for n in range(3, 9):
    add(f"suffix at the edge {n}", torch.full((n,), 100.5), parameter=True)

numbers = [0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, 1e-4, 0.001, 1e-12, 1.5e-7, 1e16, 1e15, 9999999999999998.0, 123456789012345680.0, 1e22,
           1e23, 9.5e-5, 0.5, 2.5, 1.5, 0.125, 0.375, 0.00005, 0.00015, 100.0, 123.456, 1e300, 5e-324, 2.2250738585072014e-308,
           1.7976931348623157e308, 2.0 ** -25, 2.0 ** -44, 2.0 ** -958, 2.0 ** 53, 2.0 ** 54 + 4, 9.99995, 99999.5, 0.99995, 1.00005, 1.00015, inf, -inf, nan]
numbers += [2.0 ** k for k in range(-1074, 1024, 13)]
numbers += [k / 2 ** 5 for k in range(1, 100, 7)] + [1.00005 + k * 0.0001 for k in range(20)]
numbers += [float(torch.tensor(v).float()) for v in (1e-5, 0.1, 1 / 3)]
numbers += [random.randint(10000, 99999) * 10.0 ** k + 5 * 10.0 ** (k - 1) for k in range(1, 12)]
while len(numbers) < 2300:
    value = struct.unpack("<d", random.randbytes(8))[0] if len(numbers) % 2 else random.uniform(-1, 1) * 10 ** random.randint(-8, 20)
    if math.isfinite(value):
        numbers.append(value)

table = [[struct.pack(">d", v).hex(), repr(v), f"{v:.4e}", f"{v:.4f}" if abs(v) < 1e12 or not math.isfinite(v) else "",
          f"{v:.0e}" if i < 400 else "", f"{v:.1f}" if i < 400 else ""] for i, v in enumerate(numbers)]
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "torch_text.json")
with open(path, "w", encoding="ascii", newline="\n") as out:
    out.write('{"torch": ' + json.dumps(torch.__version__) + ',\n"tensors": [\n')
    out.write(",\n".join(json.dumps(c) for c in cases))
    out.write('\n],\n"numbers": [\n' + ",\n".join(json.dumps(r) for r in table) + "\n]}\n")
print(len(cases), "tensors,", len(table), "numbers,", os.path.getsize(path), "bytes")
