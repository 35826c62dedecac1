#pragma once
// The short text form of a graph, for tests and golden files.
//
//   x: f32[1,8,64]                                     an input of the graph
//   w: f32[64,64]                                      (inside an operand: an initializer without data)
//   c: f32[] = {0.125}                                 an initializer with data
//   q = Add(bq: f32[64], MatMul(x, wq: f32[64,64]))    nested calls make unnamed values
//   a, b = Split(q, axis=-1, num_outputs=2)            attributes after the operands
//   z = com.microsoft::Gelu(a)                         a domain before ::
//   y = Reshape(z, {1,8,4,16})                         {..} is an int64 initializer; {0.5} with a dot is float32
//   s = MatMul(a, _)                                   _ is an optional input that is left out
//   @scores s2 = Softmax(s, axis=-1)                   @NAME names the node; without it OPTYPE_INDEX
//   return y, s2                                       outputs; without it: all values that nothing reads
//   # a comment

#include "graph/graph.h"

namespace triptych {

/// Fails with stage "text" and the line number in the cause.
Result<GraphPtr> parseText(std::string_view text);
/// One line a node, no nesting; parses back to an equal graph. Declared types are printed for inputs and initializers.
std::string printText(const Graph& graph);

} // namespace triptych
