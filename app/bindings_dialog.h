#pragma once

#include "shapes/shapes.h"

#include <QString>

class QWidget;

namespace triptych {

/// Asks for the sizes of symbolic dimensions. @returns true where the user accepted; `chosen` holds all of them then.
bool editBindings(QWidget* parent, const std::vector<SymbolicDim>& dims, const Bindings& present, Bindings& chosen);

/// A bundled sample as a file that the engine can map.
QString sampleFile(const QString& name);

} // namespace triptych
