"""The OpenVINO graph of a BERT-like encoder with a classification head, built from arrays: no torch and no tracing.

The graph does three things that a traced one does not:

- the real tokens of a batch stand in one row `(N, H)`, so linear layers and norms never see padding; only attention
  lays them out as `(B, T)`;
- query, key and value are one product;
- the last layer computes keys and values for all tokens and everything else for the first token of each pair alone,
  which is all that the head reads.

Constants carry the names of the checkpoint's parameters, so that `weight_compression.read_ir_weights` finds them again.

Shape letters: `B` pairs of one batch, `T` tokens of the longest of them, `N` real tokens of the batch, `H` hidden,
`A` attention heads, `D` size of a head, `L` labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from crossrank.errors import CheckpointError, UnsupportedModel
from crossrank.inference.openvino_core import ops, ov
from crossrank.inference.weight_compression import join_names, mark_named
from crossrank.inference.weight_files import Weights

# Added to the attention logits of padding: float16's lowest number, which every precision holds and whose exponential
# is exactly 0 beside that of a real token.
_MASKED = -65504.0
# The rows of the linear layers are a multiple of this.
_ROUND_TOKENS = 16


@dataclass(frozen=True)
class _Layout:
    """What differs between the model types that share BERT's layers.

    Attributes:
        body: First part of the names of the encoder's parameters.
        dense: Name of the head's first layer.
        activation: Behind it.
        output: Name of the head's last layer.
        positions_after_padding: Whether position numbers start behind the padding id.
    """

    body: str
    dense: str
    activation: str
    output: str
    positions_after_padding: bool = False


_ROBERTA = _Layout("roberta", "classifier.dense", "tanh", "classifier.out_proj", positions_after_padding=True)
_LAYOUTS: dict[str, _Layout] = {
    "bert": _Layout("bert", "bert.pooler.dense", "tanh", "classifier"),
    "roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "electra": _Layout("electra", "classifier.dense", "gelu", "classifier.out_proj"),
}

_ACTIVATIONS = {
    "gelu": lambda x: ops.gelu(x, "erf"),
    "gelu_new": lambda x: ops.gelu(x, "tanh"),
    "gelu_pytorch_tanh": lambda x: ops.gelu(x, "tanh"),
    "relu": ops.relu,
    "silu": ops.swish,
    "swish": ops.swish,
    "tanh": ops.tanh,
}


def supports_graph(config: Mapping[str, Any]) -> bool:
    """Return whether `build_graph` can build the network that a `config.json` describes."""
    return (
        config.get("model_type") in _LAYOUTS
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act", "gelu") in _ACTIVATIONS
        and not config.get("is_decoder", False)
    )


def build_graph(config: Mapping[str, Any], weights: Weights, *, pad_token_id: int, where: str) -> ov.Model:
    """Build the graph: `input_ids`, `attention_mask`, `token_type_ids` int64 `(B, T)` to `logits` float32 `(B, L)`.

    Args:
        config: `config.json` of the checkpoint.
        weights: Its parameters by their names in transformers.
        pad_token_id: Where position numbers start in RoBERTa and its kin.
        where: The checkpoint, for errors.

    Raises:
        UnsupportedModel: If the network is not one that `supports_graph` accepts.
        CheckpointError: If a parameter is missing, superfluous or of a wrong shape.
    """
    if not supports_graph(config):
        raise UnsupportedModel(
            f"{where}: no direct OpenVINO graph for model_type {config.get('model_type')!r} with its options: convert "
            "it with `crossrank export`, or load it with backend='torch'"
        )
    return _GraphBuilder(config, _ParameterSource(weights, where), pad_token_id).build()


class _ParameterSource:
    """Hands out parameters as constants, each checked for its shape, and knows which were never asked for."""

    def __init__(self, weights: Weights, where: str) -> None:
        self._weights = weights
        self._where = where
        self._used: set[str] = set()

    def constant(self, *names: str, shape: tuple[int, ...], row: bool = False) -> Any:
        """Return parameters as one constant, joined along the first axis; each must have the given shape.

        With `row`, a vector becomes `(1, H)`: the form that the CPU plugin fuses.
        """
        arrays = [self._take(name, shape) for name in names]
        joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        node = ops.constant(joined[None] if row else joined)
        node.set_friendly_name(join_names(names))
        return node

    def check_all_used(self, body: str) -> None:
        """Refuse weights of a bigger network than the configuration describes."""
        prefixes = (f"{body}.encoder.", f"{body}.embeddings", "classifier.")
        left = sorted(
            name
            for name in self._weights.keys() - self._used
            if name.startswith(prefixes) and "position_ids" not in name
        )
        if left:
            raise CheckpointError(
                f"{self._where}: the file holds {len(left)} weights that the network of config.json has no place for, "
                f"such as {left[0]}; is config.json its own?"
            )

    def _take(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        array = self._weights.get(name)
        if array is None and name.startswith("classifier."):
            raise CheckpointError(
                f"{self._where}: the weights of the scoring head are missing ({name}), so every score would be random; "
                "give a checkpoint that was trained for sequence classification"
            )
        if array is None:
            raise CheckpointError(f"{self._where}: the weights of {name} are missing; is config.json its own?")
        if array.shape != shape:
            raise CheckpointError(
                f"{self._where}: {name} has shape {array.shape}, but config.json says {shape}; is config.json its own?"
            )
        self._used.add(name)
        return array


class _GraphBuilder:
    """Builds one graph; every method adds one part of the network."""

    def __init__(self, config: Mapping[str, Any], parameters: _ParameterSource, pad_token_id: int) -> None:
        self.config = config
        self.parameters = parameters
        self.pad_token_id = pad_token_id
        self.layout = _LAYOUTS[config["model_type"]]
        self.hidden = self._size("hidden_size")
        self.heads = self._size("num_attention_heads")
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))
        self.activation = _ACTIVATIONS[config.get("hidden_act", "gelu")]

    def build(self) -> ov.Model:
        inputs = [_input(name) for name in ("input_ids", "attention_mask", "token_type_ids")]
        self._lay_out(inputs[0], inputs[1])
        hidden = self._embed(inputs[0], inputs[2])
        num_layers = self._size("num_hidden_layers")
        for index in range(num_layers):
            hidden = self._layer(hidden, index, is_last=index == num_layers - 1)
        logits = self._head(hidden)
        logits.output(0).get_tensor().set_names({"logits"})
        self.parameters.check_all_used(self.layout.body)
        model = ov.Model([ops.result(logits)], inputs, self.config["model_type"])
        mark_named(model)
        return model

    def _lay_out(self, input_ids: Any, attention_mask: Any) -> None:
        """Compute the index arrays that lead from `(B, T)` to `(N,)` and back, and the mask of attention."""
        self.shape = ops.shape_of(input_ids, "i64")
        flat_mask = ops.reshape(attention_mask, _ints(-1), False)
        real_tokens = ops.squeeze(ops.non_zero(flat_mask, "i64"), _ints(0))
        # Filled up with the first token to a round number, because the plugin keeps memory for every shape it has seen.
        missing = ops.floor_mod(ops.multiply(ops.shape_of(real_tokens, "i64"), _ints(-1)), _ints(_ROUND_TOKENS))
        self.real_tokens = ops.concat([real_tokens, ops.broadcast(_int(0), missing)], 0)  # (N,)
        # Padding points at the real token before it: any finite value does, attention gives it no weight.
        rank = ops.subtract(ops.cum_sum(flat_mask, _int(0)), _int(1))
        self.place = ops.reshape(rank, self.shape, False)  # (B, T)
        self.first = ops.reshape(ops.gather(self.place, _ints(0), _int(1)), _ints(-1), False)  # (B,)
        is_padding = ops.subtract(_float(1), ops.convert(attention_mask, np.float32))
        self.mask = ops.unsqueeze(ops.multiply(is_padding, _float(_MASKED)), _ints(1, 2))  # (B, 1, 1, T)

    def _embed(self, input_ids: Any, token_type_ids: Any) -> Any:
        size = self.config.get("embedding_size", self.hidden) if self.layout.body == "electra" else self.hidden
        tables = (
            ("word_embeddings", "vocab_size", input_ids),
            ("token_type_embeddings", "type_vocab_size", token_type_ids),
            ("position_embeddings", "max_position_embeddings", self._positions(input_ids)),
        )
        total = None
        for name, count, indices in tables:
            parameter = f"{self.layout.body}.embeddings.{name}.weight"
            table = self.parameters.constant(parameter, shape=(self._size(count), size))
            rows = ops.gather(table, self._pack(indices), _int(0))
            total = rows if total is None else ops.add(total, rows)
        embedded = self._norm(total, f"{self.layout.body}.embeddings.LayerNorm", size)
        if size == self.hidden:
            return embedded
        return self._linear(embedded, f"{self.layout.body}.embeddings_project", inputs=size)

    def _positions(self, input_ids: Any) -> Any:
        if self.layout.positions_after_padding:
            # Counts the tokens that are not padding, also where a text spells out the padding token.
            counted = ops.convert(ops.not_equal(input_ids, _int(self.pad_token_id)), np.int64)
            numbers = ops.multiply(ops.cum_sum(counted, _int(1)), counted)
            return ops.add(numbers, _int(self.pad_token_id))
        width = ops.squeeze(ops.gather(self.shape, _ints(1), _int(0)), _ints(0))
        return ops.broadcast(ops.unsqueeze(ops.range(_int(0), width, _int(1), "i64"), _ints(0)), self.shape)

    def _layer(self, hidden: Any, index: int, *, is_last: bool) -> Any:
        name = f"{self.layout.body}.encoder.layer.{index}"
        context = self._attend_first(hidden, name) if is_last else self._attend(hidden, name)
        residual = ops.gather(hidden, self.first, _int(0)) if is_last else hidden
        attended = self._linear(context, f"{name}.attention.output.dense")
        hidden = self._norm(ops.add(attended, residual), f"{name}.attention.output.LayerNorm", self.hidden)
        wide_size = self._size("intermediate_size")
        wide = self.activation(self._linear(hidden, f"{name}.intermediate.dense", outputs=wide_size))
        narrow = self._linear(wide, f"{name}.output.dense", inputs=wide_size)
        return self._norm(ops.add(narrow, hidden), f"{name}.output.LayerNorm", self.hidden)

    def _attend(self, hidden: Any, name: str) -> Any:
        """Return the context of all tokens, `(N, H)`."""
        parts = self._linear(hidden, *(f"{name}.attention.self.{part}" for part in ("query", "key", "value")))
        query, key, value = self._heads(self._unpack(parts), 3)
        context = self._context(query, key, value)
        return ops.gather(ops.reshape(context, _ints(-1, self.hidden), False), self.real_tokens, _int(0))

    def _attend_first(self, hidden: Any, name: str) -> Any:
        """Return the context of the first token of each pair, `(B, H)`."""
        parts = self._linear(hidden, *(f"{name}.attention.self.{part}" for part in ("key", "value")))
        key, value = self._heads(self._unpack(parts), 2)
        first = self._linear(ops.gather(hidden, self.first, _int(0)), f"{name}.attention.self.query")
        (query,) = self._heads(ops.unsqueeze(first, _ints(1)), 1)
        return ops.reshape(self._context(query, key, value), _ints(-1, self.hidden), False)

    def _context(self, query: Any, key: Any, value: Any) -> Any:
        """Attention of `(B, A, T, D)` arrays as separate steps: the CPU plugin fuses them into one kernel."""
        scale = 1.0 / np.sqrt(self.hidden // self.heads)
        attention = ops.add(ops.multiply(ops.matmul(query, key, False, True), _float(scale)), self.mask)
        context = ops.matmul(ops.softmax(attention, -1), value, False, False)
        return ops.transpose(context, _ints(0, 2, 1, 3))

    def _heads(self, joined: Any, num_parts: int) -> list[Any]:
        """Cut `(B, T, parts * H)` into one `(B, A, T, D)` array a part."""
        split = ops.reshape(joined, _ints(0, 0, num_parts * self.heads, self.hidden // self.heads), True)
        parts = (
            [split]
            if num_parts == 1
            else ops.variadic_split(split, _int(2), _ints(*[self.heads] * num_parts)).outputs()
        )
        return [ops.transpose(part, _ints(0, 2, 1, 3)) for part in parts]

    def _head(self, first: Any) -> Any:
        dense = _ACTIVATIONS[self.layout.activation](self._linear(first, self.layout.dense))
        return self._linear(dense, self.layout.output, outputs=self._num_labels())

    def _linear(self, x: Any, *names: str, inputs: int | None = None, outputs: int | None = None) -> Any:
        rows, columns = outputs or self.hidden, inputs or self.hidden
        weight = self.parameters.constant(*(f"{name}.weight" for name in names), shape=(rows, columns))
        bias = self.parameters.constant(*(f"{name}.bias" for name in names), shape=(rows,), row=True)
        return ops.add(ops.matmul(x, weight, False, True), bias)

    def _norm(self, x: Any, name: str, size: int) -> Any:
        weight = self.parameters.constant(f"{name}.weight", shape=(size,), row=True)
        bias = self.parameters.constant(f"{name}.bias", shape=(size,), row=True)
        normal = ops.mvn(x, _ints(-1), True, self.epsilon, "inside_sqrt")
        return ops.add(ops.multiply(normal, weight), bias)

    def _pack(self, x: Any) -> Any:
        """`(B, T)` to `(N,)`."""
        return ops.gather(ops.reshape(x, _ints(-1), False), self.real_tokens, _int(0))

    def _unpack(self, x: Any) -> Any:
        """`(N, H)` to `(B, T, H)`."""
        return ops.gather(x, self.place, _int(0))

    def _num_labels(self) -> int:
        names = self.config.get("id2label")
        return len(names) if isinstance(names, Mapping) else int(self.config.get("num_labels", 2))

    def _size(self, key: str) -> int:
        value = self.config.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"config.json: {key} must be a whole number above 0, not {value!r}")
        return value


def _input(name: str) -> Any:
    node = ops.parameter([-1, -1], np.int64, name=name)
    node.output(0).get_tensor().set_names({name})
    return node


def _int(value: int) -> Any:
    return ops.constant(np.int64(value))


def _ints(*values: int) -> Any:
    return ops.constant(np.array(values, np.int64))


def _float(value: float) -> Any:
    return ops.constant(np.float32(value))
