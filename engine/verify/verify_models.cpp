#include "verify/verify.h"

#include <limits>

namespace triptych {

namespace {

class Verification {
public:
    Verification(const VerifyRequest& request, const Job& job) : m_request(request), m_job(job) {
        const auto reader = [](const Model& model) {
            return [&model](const Tensor& tensor) { return readPayload(model, tensor); };
        };
        m_fileOptions = {request.model.opsets, reader(request.model), {}};
        m_otherOptions = {request.otherModel.opsets, reader(request.otherModel), {}};
    }

    Result<Comparison> run() {
        if (m_request.data) {
            if (auto done = one("given inputs", m_request.data->inputs, &m_request.data->outputs); !done) return tl::unexpected(done.error());
            return std::move(m_result);
        }
        for (std::uint64_t i = 0; i < m_request.fills.size(); ++i) {
            const std::uint64_t seed = m_request.seed + i;
            auto inputs = makeInputs(m_request.file, m_request.shapes, m_request.fills[i], seed);
            if (!inputs) return tl::unexpected(inputs.error());
            std::string label(toString(m_request.fills[i]));
            if (m_request.fills[i] == Fill::random || m_request.fills[i] == Fill::masked) label += " " + std::to_string(seed);
            if (auto done = one(label, *inputs, nullptr); !done) return tl::unexpected(done.error());
        }
        return std::move(m_result);
    }

private:
    Result<void> one(const std::string& label, const NamedTensors& inputs, const NamedTensors* expected) {
        const auto file = runGraph(m_request.file, inputs, m_fileOptions, m_job);
        if (!file) return tl::unexpected(file.error());
        const auto other = runGraph(m_request.other, positioned(inputs, m_request.file.inputs(), m_request.other, m_request.other.inputs()), m_otherOptions, m_job);
        if (!other) { // the file itself runs on these inputs: that the other doesn't is a difference
            Failure failure = other.error();
            if (failure.stage == "evaluate" && !m_job.stopped()) failure = {"verify", failure.node, "in " + m_request.otherName + ", not in the file: " + failure.cause, failure.advice};
            return tl::unexpected(std::move(failure));
        }
        const NamedTensors renamed = positioned(*other, m_request.other.outputs(), m_request.file, m_request.file.outputs(), &m_request.other);
        bool holds = true;
        const auto check = [&](const NamedTensors& got, const NamedTensors& wanted, const std::string& what) {
            for (const ValueId output : m_request.file.outputs()) {
                const std::string& name = m_request.file.value(output).name;
                const auto is = got.find(name), should = wanted.find(name);
                if (should == wanted.end()) continue;
                Difference difference = is == got.end() ? lacking(name) : compare(name, is->second, should->second, m_request.relative, m_request.absolute);
                difference.comparison = what;
                difference.inputs = label;
                holds = holds && difference.holds;
                m_result.differences.push_back(std::move(difference));
            }
        };
        if (expected) {
            check(*file, *expected, "file against given outputs");
            check(renamed, *expected, m_request.otherName + " against given outputs");
        }
        check(renamed, *file, m_request.otherName + " against file");
        if (holds || !m_request.attentions || !m_result.firstAttention.empty()) return {};
        auto first = firstAttentionThatDiffers(m_request.file, m_request.other, *m_request.attentions, inputs, m_fileOptions, m_job);
        if (!first) return tl::unexpected(first.error());
        m_result.firstAttention = std::move(*first);
        return {};
    }

    static Difference lacking(const std::string& name) {
        Difference made;
        made.output = name;
        made.absolute = made.relative = std::numeric_limits<double>::infinity();
        made.at = "no such output";
        made.holds = false;
        return made;
    }

    /// Tensors under the names of another graph: the same name where it has it, else the name at the same place.
    NamedTensors positioned(const NamedTensors& from, const std::vector<ValueId>& places, const Graph& to, const std::vector<ValueId>& wanted, const Graph* origin = nullptr) const {
        const Graph& source = origin ? *origin : m_request.file;
        NamedTensors made;
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            const std::string& name = to.value(wanted[i]).name;
            auto found = from.find(name);
            if (found == from.end() && i < places.size()) found = from.find(source.value(places[i]).name);
            if (found != from.end()) made[name] = found->second;
        }
        return made;
    }

    const VerifyRequest& m_request;
    const Job& m_job;
    RunOptions m_fileOptions, m_otherOptions;
    Comparison m_result;
};

} // namespace

bool Comparison::holds() const {
    for (const Difference& each : differences)
        if (!each.holds) return false;
    return !differences.empty();
}

Result<Comparison> verify(const VerifyRequest& request, const Job& job) { return Verification(request, job).run(); }

} // namespace triptych
