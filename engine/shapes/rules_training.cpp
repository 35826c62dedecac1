// Losses, and the operators of ai.onnx.preview.training.
// Source: the ONNX operator specification.

#include "shapes/rules.h"

namespace triptych {

namespace {

/// Scores N x C x sizes and labels N x sizes: a loss for each label, or one; cross entropy also gives the logarithms.
void loss(RuleCall& call) {
    const ValueShape& scores = call.in(0);
    ValueShape each = call.in(1);
    each.type = scores.type;
    if (!each.ranked && scores.ranked && scores.dims.size() >= 2) {
        each = scores;
        each.dims.erase(each.dims.begin() + 1);
    }
    if (call.node.attributes.text("reduction", "mean") == "none") call.set(0, each);
    else call.set(0, scores.type, {});
    call.set(1, scores);
}

/// A rate and a count, then a list of tensors for each of several roles; the outputs are new tensors of some of these roles.
void optimizer(RuleCall& call) {
    const bool adam = call.node.op == "Adam"; // has two moments; the others have one
    const std::size_t roles = adam ? 4 : 3, updated = adam ? 3 : 2;
    const std::size_t count = call.inputCount() < 2 ? 0 : (call.inputCount() - 2) / roles;
    for (std::size_t role = 0; role < updated; ++role)
        for (std::size_t i = 0; i < count; ++i) // the gradients, in the second role, are not among the outputs
            call.set(role * count + i, call.in(2 + (role == 0 ? 0 : role + 1) * count + i));
}

/// The derivatives by xs, which are the first inputs.
void gradient(RuleCall& call) {
    for (std::size_t i = 0; i < call.node.outputs.size(); ++i) call.set(i, call.in(i));
}

} // namespace

void addTrainingRules(RuleTable& table) {
    table["NegativeLogLikelihoodLoss"] = table["SoftmaxCrossEntropyLoss"] = loss;
    for (const char* op : {"ai.onnx.preview.training::Adagrad", "ai.onnx.preview.training::Adam", "ai.onnx.preview.training::Momentum"}) table[op] = optimizer;
    table["ai.onnx.preview.training::Gradient"] = gradient;
}

} // namespace triptych
