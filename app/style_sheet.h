#pragma once

#include "drawing/draw.h"

#include <QString>

namespace triptych {

/// The widgets' look under a theme.
QString styleSheet(const Theme& theme);

} // namespace triptych
