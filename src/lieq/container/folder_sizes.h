// Bytes of the folders that WriteModelFolder writes, known before there are codes.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lieq/container/container_sizes.h"
#include "lieq/container/model_folder.h"
#include "lieq/io/tensor_file.h"

namespace lieq {

/// PackedForm::specs of matrices that are not there yet.
struct PlannedForm {
  /// own: the float type of the quantized model (ModelFolder::dtype).
  std::function<std::vector<TensorSpec>(const std::string& module, Index rows, Index cols,
                                        const Grid& grid, DType own)>
      specs;
  bool stacks_experts = false;
  std::string format;  // of the metadata, as WriteModelFolder is given it
};

/// `source`, which outlives it, is the model before it is quantized.
class FolderSizes : public ContainerSizes {
 public:
  FolderSizes(const ModelFolder& source, PlannedForm form)
      : source_(source), form_(std::move(form)) {}

  [[nodiscard]] std::uint64_t Whole(const ModelGrids& grids) const override;
  [[nodiscard]] std::int64_t OfLinear(Index layer, Site site, const Grid& grid) const override;
  [[nodiscard]] std::int64_t OfEnd(End end, const std::optional<Grid>& grid) const override;

 protected:
  [[nodiscard]] const ModelFolder& source() const noexcept { return source_; }
  /// The float type of the model once it is quantized, which is that of a tensor that stays.
  [[nodiscard]] DType OwnType(bool packed_embedding) const;

 private:
  const ModelFolder& source_;
  PlannedForm form_;
};

}  // namespace lieq
