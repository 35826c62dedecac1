// Colours: docs/user-guide.md, "Colours". The families' palette stays distinct for colour-blind readers and in print.
#include "drawing/draw.h"

namespace triptych {

const Theme& lightTheme() {
    static const Theme theme{0xFBFCFD, 0xFFFFFF, 0xDFE3E8, 0x1B2430, 0x64707F, 0x98A2AE, 0xFFFFFF, 0xB9C2CC, 0x8A95A3, 0x1F6FEB, 0xE8F0FE, 0x0B7A4B, 0xB3261E, 0.16F, false};
    return theme;
}

const Theme& darkTheme() {
    static const Theme theme{0x171C22, 0x1B2027, 0x2E3640, 0xE6EAF0, 0x9AA6B4, 0x6B7684, 0x232A33, 0x465160, 0x76828F, 0x6CA8FF, 0x22324A, 0x4CC38A, 0xFF7B72, 0.24F, true};
    return theme;
}

std::uint32_t Theme::family(Family family) const {
    switch (family) {
    case Family::parallel: return dark ? 0xF5B93A : 0xE69F00;
    case Family::attention: return dark ? 0x4CA6E8 : 0x0072B2;
    case Family::linear: return dark ? 0x2FC79A : 0x009E73;
    case Family::norm: return dark ? 0xD07BC3 : 0xAA4499;
    case Family::region: return dark ? 0xF0803C : 0xD55E00;
    case Family::gated: return dark ? 0xC6C65A : 0x999933;
    case Family::view: return dark ? 0x7CC8F2 : 0x56B4E9;
    case Family::none: break;
    }
    return nodeLine;
}

} // namespace triptych
