#include "lieq/io/lfs_pointer.h"

#include "lieq/base/error.h"

namespace lieq {

void RefuseLfsPointer(std::string_view begin, const std::string& where) {
  if (!begin.starts_with("version https://git-lfs")) return;
  throw Error({.what = "a Git LFS pointer, not the file itself",
               .where = where,
               .hint = "run 'git lfs pull' in the repository"});
}

}  // namespace lieq
