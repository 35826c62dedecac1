#pragma once
// Do two graphs compute the same numbers? Runs both with the reference evaluator on the same inputs.

#include "attention/decompose.h"
#include "reference/run.h"

namespace triptych {

/// How inputs are made. masked: as random, but masks hide the last third of every sequence.
enum class Fill { random, ones, zeros, ramp, masked };
std::string_view toString(Fill fill); ///< "random", ...
std::optional<Fill> fillNamed(std::string_view name);

/// Values for every input of a graph under the shapes that it is bound to. Integers that select rows of a table stay
/// within it; integers and bools that mask are 0 or 1. The same seed gives the same values on every machine.
Result<NamedTensors> makeInputs(const Graph& graph, const Shapes& shapes, Fill fill, std::uint64_t seed);

/// Test data of a folder: input_0.pb, input_1.pb ... by position or by name, output_0.pb ... likewise.
struct TestData {
    NamedTensors inputs, outputs;
};
Result<TestData> readTestData(const Graph& graph, const std::filesystem::path& folder);

/// Allowed |a - b|: absolute + relative * largest |expected| of the tensor.
struct Tolerance {
    double relative = 0, absolute = 0;
};
/// float32 1e-5, float16 2e-3, bfloat16 2e-2, float64 1e-10 of the largest value; others exact.
Tolerance defaultTolerance(DataType type);

/// One output of one run.
struct Difference {
    std::string output;
    std::string inputs;     ///< "random 1", "ramp", "given inputs"
    std::string comparison; ///< "file against given outputs", "decomposed against file", ...
    double absolute = 0;    ///< largest |a - b|; infinite where shapes, or NaN and number, differ
    double relative = 0;    ///< that, of the largest |expected| value
    std::string at;         ///< index of the largest difference: "[0,3,17]"; or what differs in shape
    double allowed = 0;
    bool holds = true;
};
/// @param relative,absolute  in place of the default where given
Difference compare(const std::string& output, const HostTensor& got, const HostTensor& expected, std::optional<double> relative, std::optional<double> absolute);

/// First attention whose values differ, for people: "attention_3: value /layer/3/MatMul_1_output (largest difference 0.2)";
/// empty where none does although the outputs differ.
Result<std::string> firstAttentionThatDiffers(const Graph& file, const Graph& decomposed, const Attentions& attentions, const NamedTensors& inputs,
                                              const RunOptions& options, const Job& job = {});

/// Two graphs and what to run them on.
struct VerifyRequest {
    const Model& model;
    const Graph& file;              ///< function calls inlined
    const Shapes& shapes;           ///< of `file`
    const Model& otherModel;        ///< where the other graph's weights lie: the same, where it was decomposed in memory
    const Graph& other;
    std::string otherName;          ///< "decomposed", or a file's name
    const Attentions* attentions = nullptr; ///< of `file`; null: a difference is not traced to one
    const TestData* data = nullptr; ///< null: inputs are made
    std::vector<Fill> fills;        ///< one run each, with seed, seed + 1, ...
    std::uint64_t seed = 1;
    std::optional<double> relative, absolute;
};

struct Comparison {
    std::vector<Difference> differences;
    std::string firstAttention; ///< the first that differs, for people; empty where all hold or none could be told
    bool holds() const;         ///< something was compared and nothing differs
};

/// Fails with stage "weights" or "evaluate", naming what can't be run.
Result<Comparison> verify(const VerifyRequest& request, const Job& job = {});

} // namespace triptych
