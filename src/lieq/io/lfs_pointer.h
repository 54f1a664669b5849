// What a checkout has in place of a large file that was not fetched.
#pragma once

#include <string>
#include <string_view>

namespace lieq {

/// Throws Error where a file that begins so is a pointer of Git LFS; `where` names it.
void RefuseLfsPointer(std::string_view begin, const std::string& where);

}  // namespace lieq
