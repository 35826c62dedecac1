// Classic machine learning: the operators of ai.onnx.ml.
// Source: the ONNX operator specification; where it leaves a shape open (one-dimensional inputs, columns of scores), what ONNX Runtime gives.

#include "shapes/rules.h"

#include <algorithm>

namespace triptych {

namespace {

/// Elements of a list attribute of whatever type; 0 where absent.
std::size_t listSize(const RuleCall& call, std::string_view name) {
    const Attribute* found = call.node.attributes.find(name);
    if (!found) return 0;
    if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&found->value)) return integers->size();
    if (const auto* reals = std::get_if<std::vector<float>>(&found->value)) return reals->size();
    if (const auto* texts = std::get_if<std::vector<std::string>>(&found->value)) return texts->size();
    return 0;
}

/// Rows of [N, C]; what has one axis is one row.
Dim rows(const ValueShape& in) { return !in.ranked || in.dims.empty() ? unknownDim : in.dims.size() == 1 ? 1 : in.dims[0]; }

void keep(RuleCall& call, DataType type) {
    ValueShape out = call.in(0);
    if (type != DataType::undefined) out.type = type;
    call.set(0, out);
}

void same(RuleCall& call) { keep(call, DataType::undefined); }
void toFloat(RuleCall& call) { keep(call, DataType::float32); }

/// Columns of the last axis.
void extract(RuleCall& call) {
    const ValueShape &in = call.in(0), &columns = call.in(1);
    if (!in.ranked || in.dims.empty()) return call.setType(0, in.type);
    Dim count = columns.ranked ? Dim(1) : unknownDim;
    for (const Dim dim : columns.dims) count = times(count, dim);
    Dims dims = in.dims;
    dims.back() = count;
    if (dims.size() == 1) dims.insert(dims.begin(), 1);
    call.set(0, in.type, std::move(dims));
}

void categories(RuleCall& call) { keep(call, call.in(0).type == DataType::string ? DataType::int64 : DataType::string); }

void labels(RuleCall& call) {
    DataType type = call.in(0).type == DataType::string ? DataType::int64 : DataType::string; // the first version: classes_strings
    if (listSize(call, "values_strings") > 0) type = DataType::string;
    else if (listSize(call, "values_int64s") > 0) type = DataType::int64;
    else if (listSize(call, "values_floats") > 0) type = DataType::float32;
    else if (const TensorPtr values = call.node.attributes.tensor("values_tensor")) type = values->type;
    keep(call, type);
}

/// A map to one row with a column for each word.
void dictionary(RuleCall& call) {
    const std::size_t words = listSize(call, "string_vocabulary") + listSize(call, "int64_vocabulary");
    call.set(0, DataType::undefined, {1, static_cast<Dim>(words)});
}

void castMap(RuleCall& call) {
    const std::string to = call.node.attributes.text("cast_to", "TO_FLOAT");
    const DataType type = to == "TO_STRING" ? DataType::string : to == "TO_INT64" ? DataType::int64 : DataType::float32;
    const bool dense = call.node.attributes.text("map_form", "DENSE") == "DENSE";
    if (dense) call.dataDependent = "as many as the map has entries";
    call.set(0, type, {1, dense ? unknownDim : call.node.attributes.integer("max_map", 1)});
}

void features(RuleCall& call) {
    const auto* sizes = call.node.attributes.integers("inputdimensions");
    Dim columns = sizes ? 0 : unknownDim;
    if (sizes)
        for (const std::int64_t size : *sizes) columns = plus(columns, size);
    call.set(0, DataType::float32, {rows(call.in(0)), columns});
}

void oneHot(RuleCall& call) {
    ValueShape out = call.in(0);
    out.type = DataType::float32;
    if (out.ranked) out.dims.push_back(static_cast<Dim>(std::max(listSize(call, "cats_int64s"), listSize(call, "cats_strings"))));
    call.set(0, out);
}

/// Support vectors without probabilities vote: a column for each pair of classes.
Dim scoreColumns(const RuleCall& call, Dim classes) {
    if (call.node.op != "SVMClassifier" || listSize(call, "prob_a") > 0 || listSize(call, "vectors_per_class") == 0 || classes <= 2) return classes;
    return times(classes, classes - 1) < 0 ? unknownDim : classes * (classes - 1) / 2;
}

/// A label and scores for each row.
void classifier(RuleCall& call) {
    const std::size_t texts = listSize(call, "classlabels_strings");
    auto classes = static_cast<Dim>(std::max({texts, listSize(call, "classlabels_ints"), listSize(call, "classlabels_int64s")}));
    if (classes == 0) classes = listSize(call, "intercepts") > 0 ? static_cast<Dim>(listSize(call, "intercepts")) : unknownDim;
    const Dim count = rows(call.in(0));
    call.set(0, texts > 0 ? DataType::string : DataType::int64, {count});
    call.set(1, DataType::float32, {count, scoreColumns(call, classes)});
}

void regressor(RuleCall& call) {
    const Attributes& attributes = call.node.attributes;
    const std::int64_t targets = attributes.integer("n_targets", attributes.integer("targets", 1));
    const DataType type = call.node.op == "TreeEnsemble" ? call.in(0).type : DataType::float32;
    call.set(0, type, {rows(call.in(0)), targets});
}

void zipMap(RuleCall& call) { call.dataDependent = "it is a sequence of maps"; }

} // namespace

void addMlRules(RuleTable& table) {
    table["ai.onnx.ml::ArrayFeatureExtractor"] = extract;
    for (const char* op : {"ai.onnx.ml::Binarizer", "ai.onnx.ml::Imputer"}) table[op] = same;
    for (const char* op : {"ai.onnx.ml::Normalizer", "ai.onnx.ml::Scaler"}) table[op] = toFloat;
    table["ai.onnx.ml::CategoryMapper"] = categories;
    table["ai.onnx.ml::LabelEncoder"] = labels;
    table["ai.onnx.ml::DictVectorizer"] = dictionary;
    table["ai.onnx.ml::CastMap"] = castMap;
    table["ai.onnx.ml::FeatureVectorizer"] = features;
    table["ai.onnx.ml::OneHotEncoder"] = oneHot;
    for (const char* op : {"ai.onnx.ml::LinearClassifier", "ai.onnx.ml::SVMClassifier", "ai.onnx.ml::TreeEnsembleClassifier"}) table[op] = classifier;
    for (const char* op : {"ai.onnx.ml::LinearRegressor", "ai.onnx.ml::SVMRegressor", "ai.onnx.ml::TreeEnsembleRegressor", "ai.onnx.ml::TreeEnsemble"}) table[op] = regressor;
    table["ai.onnx.ml::ZipMap"] = zipMap;
}

} // namespace triptych
