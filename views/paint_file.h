#pragma once

#include "drawing/draw.h"
#include "support/files.h"

namespace triptych {

enum class PaintFormat { png, pdf };

/// The whole list as a picture or a page, written atomically. Makes an offscreen QGuiApplication where there is none.
Result<void> paintToFile(const DisplayList& list, const Theme& theme, const std::filesystem::path& path, PaintFormat format);

} // namespace triptych
