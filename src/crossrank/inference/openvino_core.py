"""The one OpenVINO runtime of this process, and what its bindings need to be safe, quiet and private.

Everything else gets `ov` and its operations from here, never by an import of its own.
"""

import sys

import numpy as np

_TELEMETRY = "openvino_telemetry"
_blocked = _TELEMETRY not in sys.modules
# The bindings report that they were imported to a service for web statistics, from a process that they fork for it, and
# count that in the home folder. Where this package cannot be imported they take a stub of their own.
if _blocked:
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
try:
    import openvino as ov
    import openvino.passes
    import openvino.utils
    from openvino import opset13 as ops
finally:
    if _blocked:
        del sys.modules[_TELEMETRY]

__all__ = ["CORE", "ops", "ov"]

# One for the whole process, and never dropped. Each further one gives the calling thread a signal stack of its own, and
# when they go in another order than last in, first out, the thread is left with one that was freed: the next signal
# then ends the process with a segmentation fault.
CORE = ov.Core()

# The bindings look NumPy up when they meet the first array, under a lock that they wait for while they hold the
# interpreter's: two threads that meet it together wait for ever. An import has one thread.
ov.Tensor(np.empty(1, np.int32))
