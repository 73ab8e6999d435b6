"""The one OpenVINO runtime of this process, and what its bindings need to be safe in threads and with signals."""

import numpy as np
import openvino as ov

# One for the whole process, and never dropped. Each further one gives the calling thread a signal stack of its own, and
# when they go in another order than last in, first out, the thread is left with one that was freed: the next signal
# then ends the process with a segmentation fault.
CORE = ov.Core()

# The bindings look NumPy up when they meet the first array, under a lock that they wait for while they hold the
# interpreter's: two threads that meet it together wait for ever. An import has one thread.
ov.Tensor(np.empty(1, np.int32))
