#pragma once

#include "shapes/shapes.h"

#include <QString>
#include <functional>

class QWidget;

namespace triptych {

/// Asks for the sizes of symbolic dimensions, without waiting: `accepted` gets all of them where the user says so.
void editBindings(QWidget* parent, const std::vector<SymbolicDim>& dims, const Bindings& present, const std::function<void(const Bindings&)>& accepted);

/// "batch 1 · N 128 (sequence)": each size with its dimension's name, and what it is taken for where the name doesn't say so.
QString describeSizes(const std::vector<SymbolicDim>& dims, const Bindings& present);

/// A bundled sample as a file that the engine can map.
QString sampleFile(const QString& name);

} // namespace triptych
