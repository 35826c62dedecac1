// Named sets of operators that patterns refer to as "@name". Listed in docs/patterns.md.

#include "fusion/rule.h"

namespace triptych {

namespace {

const std::map<std::string, std::vector<std::string>, std::less<>>& sets() {
    static const std::map<std::string, std::vector<std::string>, std::less<>> all = [] {
        std::map<std::string, std::vector<std::string>, std::less<>> made{
            {"gelu",
             {"GELU", "Gelu", "com.microsoft.Gelu", "com.microsoft.FastGelu", "com.microsoft.QuickGelu",
              "com.microsoft.BiasGelu"}},
            {"silu", {"SiLU", "Swish", "HardSwish", "Mish"}},
            {"activation",
             {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "Tanh", "Clip", "Softplus",
              "Softsign", "ThresholdedRelu"}},
            {"layernorm", {"LayerNorm", "LayerNormalization"}},
            {"rmsnorm",
             {"RMSNorm", "RMSNormalization", "SimplifiedLayerNormalization",
              "com.microsoft.SimplifiedLayerNormalization"}},
            {"groupnorm", {"GroupNormalization", "InstanceNormalization", "com.microsoft.GroupNorm"}},
            {"conv", {"Conv", "ConvTranspose"}},
            {"pool", {"GlobalAveragePool", "ReduceMean"}},
            {"linear", {"Linear"}},
            {"product", {"MatMul", "Einsum", "com.microsoft.FusedMatMul"}},
            {"scale", {"Mul", "Div"}},
            {"cut", {"Slice", "Split", "Gather"}},
            {"attention", {"Attention"}},
            {"size",
             {"Shape", "Size", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Cast", "Add", "Sub", "Mul", "Div",
              "Where", "Range", "ConstantOfShape", "Reshape", "Identity"}},
            {"view",
             {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Expand", "Slice", "Split",
              "Transpose", "Gather", "Cast"}},
            {"quantize", {"QuantizeLinear", "DynamicQuantizeLinear"}},
            {"dequantize", {"DequantizeLinear"}},
        };
        auto& activation = made["activation"];
        activation.insert(activation.end(), made["silu"].begin(), made["silu"].end());
        auto& norm = made["norm"];
        for (const char* part : {"layernorm", "rmsnorm"}) norm.insert(norm.end(), made[part].begin(), made[part].end());
        auto& pointwise = made["pointwise"] = {
            "Add", "Sub",   "Mul",   "Div",        "Pow",         "Sqrt",           "Neg",   "Abs",
            "Exp", "Log",   "Erf",   "Reciprocal", "Where",       "Cast",           "Not",   "And",
            "Or",  "Equal", "Less",  "Greater",    "LessOrEqual", "GreaterOrEqual", "Min",   "Max",
            "Sin", "Cos",   "Floor", "Ceil",       "Round",       "Sign",           "IsNaN", "Dropout"};
        for (const char* part : {"activation", "gelu"})
            pointwise.insert(pointwise.end(), made[part].begin(), made[part].end());
        return made;
    }();
    return all;
}

} // namespace

const std::vector<std::string>* operatorSet(std::string_view name) {
    const auto found = sets().find(name);
    return found == sets().end() ? nullptr : &found->second;
}

std::vector<std::string> operatorSets() {
    std::vector<std::string> names;
    for (const auto& [name, members] : sets()) names.push_back("@" + name);
    return names;
}

} // namespace triptych
