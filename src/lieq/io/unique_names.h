// Names of tensors that are about to be written.
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

namespace lieq {

/// Throws Error naming `where` and the first name that stands there twice: no reader takes a file,
/// or shards, with two tensors of one name.
void RequireUniqueNames(std::vector<std::string_view> names, const std::filesystem::path& where);

}  // namespace lieq
