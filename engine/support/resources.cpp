#include "support/resources.h"

namespace triptych {

std::vector<Resource> resourcesUnder(std::string_view folder) {
    std::vector<Resource> found;
    for (const Resource& resource : resources())
        if (resource.path.starts_with(folder)) found.push_back(resource);
    return found;
}

} // namespace triptych
