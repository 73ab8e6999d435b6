"""What the vision tower made of images, kept so that a page that many queries look at is encoded once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor

from crossrank.encoding.pairs import VisualInput

Encode = Callable[[list[VisualInput]], list[Tensor]]


class VisionCache:
    """The features of the images that were seen last, by their content; safe to use from many threads.

    Args:
        max_bytes: What the features may take together; the oldest are forgotten.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._features: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._features)

    def features(self, images: Sequence[VisualInput], encode: Encode) -> list[Tensor]:
        """Return the features of images, in the order given; what is not known goes through `encode`, each once."""
        keys = [image.key for image in images]
        found = self._look_up(keys)
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in found}
        if missing:
            fresh = dict(zip(missing, encode(list(missing.values())), strict=True))
            found |= fresh
            self._keep(fresh)
        return [found[key] for key in keys]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._features.clear()
            self.num_bytes = 0

    def _look_up(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        with self._lock:
            found = {key: self._features[key] for key in keys if key in self._features}
            for key in found:
                self._features.move_to_end(key)
            return found

    def _keep(self, fresh: dict[bytes, Tensor]) -> None:
        with self._lock:
            for key, features in fresh.items():
                if key in self._features or features.nbytes > self.max_bytes:
                    continue
                # A copy of its own: a view would keep the whole batch it was computed in.
                self._features[key] = features.clone()
                self.num_bytes += features.nbytes
            while self.num_bytes > self.max_bytes:
                _, old = self._features.popitem(last=False)
                self.num_bytes -= old.nbytes
