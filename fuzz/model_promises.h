// What must hold of a whole model that was opened.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/container/compare.h"
#include "lieq/container/ggml_blocks.h"
#include "lieq/container/model_folder.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// Every type of blocks that holds the matrix gives the same values back.
inline void CheckBlocks(const QMatrix& matrix) {
  for (const BlockType& type : BlockTypes()) {
    if (!type.grid || type.encode == nullptr || !Holds(type, matrix)) continue;
    const std::size_t bytes = RowBytes(type.type(), matrix.cols());
    std::vector<std::byte> blocks(Size(matrix.rows()) * bytes);
    std::vector<std::uint8_t> codes(Size(matrix.cols()));
    for (Index row = 0; row < matrix.rows(); ++row) {
      matrix.GetRow(row, codes);
      type.encode(matrix, row, codes, std::span(blocks).subspan(Size(row) * bytes, bytes));
    }
    const GgufTensor tensor{.name = "again",
                            .type = &type.type(),
                            .shape = {matrix.rows(), matrix.cols()},
                            .bytes = blocks};
    const QMatrix again = DecodeBlocks(type, tensor, {}, "again");
    Matrix<float> a(matrix.rows(), matrix.cols()), b(matrix.rows(), matrix.cols());
    matrix.Dequantize(0, a.view());
    again.Dequantize(0, b.view());
    for (Index i = 0; i < a.size(); ++i) {
      Require(a.data()[i] == b.data()[i], "blocks that hold a matrix give it back");
    }
  }
}

inline void CheckMatrix(const AnyMatrix& matrix, Index rows, Index cols) {
  Require(Rows(matrix) == rows && Cols(matrix) == cols, "shapes agree with the configuration");
  Matrix<float> wide(rows, cols);
  WidenRows(matrix, 0, wide.view());
  const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
  if (packed == nullptr) return;
  CheckMatrix(**packed);
  CheckBlocks(**packed);
}

inline void CheckModel(const ModelFolder& model) {
  const ModelConfig& config = model.weights.config;
  CheckMatrix(model.weights.embedding, config.vocab, config.hidden);
  CheckMatrix(model.weights.head, config.vocab, config.hidden);
  Require(static_cast<Index>(model.weights.layers.size()) == config.layers, "all layers are there");
  for (const LayerWeights& layer : model.weights.layers) {
    for (const Site site : kAllSites) {
      CheckMatrix(layer.At(site).weight, config.Out(site), config.In(site));
    }
  }
  Require(CompareModels(model, model).equal(), "a model is the same as itself");
  if (model.tokenizer.empty()) return;
  try {
    (void)Tokenizer::Parse(model.tokenizer, "tokenizer").Encode("some text 12", true);
  } catch (const Error& error) {
    CheckRefusal(error);
  }
}

}  // namespace lieq
