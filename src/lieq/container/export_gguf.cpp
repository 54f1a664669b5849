// GGUF as an export: one file for llama.cpp, tensor after tensor.
#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>

#include "lieq/base/error.h"
#include "lieq/base/rows.h"
#include "lieq/base/shell.h"
#include "lieq/container/export_rows.h"
#include "lieq/container/ggml_blocks.h"
#include "lieq/container/gguf_limits.h"
#include "lieq/container/gguf_names.h"
#include "lieq/container/gguf_own_keys.h"
#include "lieq/container/gguf_tokenizer.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

using Packed = std::shared_ptr<const QMatrix>;

std::string GridText(const QMatrix& matrix) {
  const Grid& grid = matrix.grid();
  if (grid.k_quant) return std::string(KQuantOf(grid).name);
  return std::to_string(grid.bits) + " bits, " + std::string(Describe(grid.offset)) +
         ", groups of " + std::to_string(matrix.group_columns());
}

/// "F16, BF16": names with commas between them.
std::string Joined(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

std::string RoundedTypes() {
  std::vector<std::string> names;
  for (const BlockType& type : BlockTypes()) {
    if (type.round != nullptr) names.emplace_back(type.name);
  }
  return Joined(names);
}

/// The narrowest type that holds the matrix: of those that were asked for, else of those that store
/// codes at their own width; null where there is none.
const BlockType* TypeFor(const QMatrix& matrix, const ExportSettings& settings) {
  const auto offered = [&](const BlockType& type) {
    if (type.encode == nullptr) return false;
    if (!settings.types.empty()) return std::ranges::count(settings.types, type.name) > 0;
    if (settings.approximate) return type.name != "TQ2_0";  // wider and exact before rounded
    return IsUsualType(type, matrix.grid().bits);
  };
  for (const BlockType& type : BlockTypes()) {
    if (offered(type) && Holds(type, matrix)) return &type;
  }
  return nullptr;
}

[[noreturn]] void RefuseGrid(const QMatrix& matrix, const ExportSettings& settings,
                             const std::string& place) {
  if (!matrix.grid().k_quant) RequireHalfScales(matrix, "gguf", place);
  throw Error(
      {.what = "a grid that gguf does not hold exactly" +
               std::string(settings.types.empty() ? " at its own width" : " in these types"),
       .where = "--to gguf, " + place,
       .expected = std::string(FindTarget("gguf").description),
       .found = GridText(matrix),
       .hint = "types that hold this matrix: " + TypesThatHold(matrix) +
               "; --types takes a list of those that may be used, --approximate rounds; " +
               WayOut(FindTarget("gguf"))});
}

/// What a matrix is written as.
struct MatrixForm {
  const BlockType* type;
  bool rounded;  // its values to the nearest that the type has; else as they are
};

MatrixForm Rounded(const BlockType& type, const AnyMatrix& matrix, const std::string& place) {
  if (Cols(matrix) % Index{type.type().columns} == 0)
    return {&type, RoundedTypeOf(matrix) != &type};
  throw Error({.what = "rows are no whole blocks of " + std::string(type.name),
               .where = "--to gguf, " + place,
               .expected = "a multiple of " + std::to_string(type.type().columns),
               .found = std::to_string(Cols(matrix)) + " columns"});
}

/// The type that --approximate rounds to.
const BlockType& NearestType(const ExportSettings& settings, Index cols) {
  for (const std::string& name : settings.types) {
    const BlockType& type = *FindBlockType(name);
    if (type.round != nullptr && cols % Index{type.type().columns} == 0) return type;
  }
  if (!settings.types.empty()) {
    throw Error({.what = "none of the types can be rounded to",
                 .where = "--approximate",
                 .expected = RoundedTypes(),
                 .found = "--types " + Joined(settings.types)});
  }
  return *FindBlockType(cols % 32 == 0 ? "Q8_0" : "F16");
}

/// As the matrix is where it may be, else exactly in a type that holds it, else rounded where that
/// was asked for.
MatrixForm FormOf(const AnyMatrix& matrix, const ExportSettings& settings,
                  const std::string& place) {
  const auto* packed = std::get_if<Packed>(&matrix);
  if (packed == nullptr) {
    const BlockType& own = *RoundedTypeOf(matrix);
    const auto allowed = [&](std::string_view name) {
      return settings.types.empty() || std::ranges::count(settings.types, name) > 0;
    };
    if (allowed(own.name)) return {&own, false};
    if (allowed("F32")) return {FindBlockType("F32"), true};  // which holds every float
    if (settings.approximate) return Rounded(NearestType(settings, Cols(matrix)), matrix, place);
    throw Error({.what = "a float matrix in none of these types",
                 .where = "--to gguf, " + place,
                 .expected = "--types with " + std::string(own.name) + " or F32",
                 .found = "--types " + Joined(settings.types),
                 .hint = "--approximate rounds it"});
  }
  if (const BlockType* type = TypeFor(**packed, settings)) return {type, false};
  if (settings.approximate) return Rounded(NearestType(settings, Cols(matrix)), matrix, place);
  RefuseGrid(**packed, settings, place);
}

/// What matrices will be written as once they are quantized. Types of grids are looked for once.
class PlannedTypes {
 public:
  explicit PlannedTypes(const ModelFolder& source) : source_(source) {}

  /// Of a matrix that will be on the grid, which gguf holds; none: in floats, of the model's own
  /// type where it is packed now.
  const BlockType& Of(const AnyMatrix& matrix, const std::optional<Grid>& grid) {
    if (!grid && std::holds_alternative<Packed>(matrix)) return *FindBlockType(Name(source_.dtype));
    if (!grid) return *RoundedTypeOf(matrix);
    const BlockType*& type =
        known_[{grid->bits, grid->group_size, grid->offset, grid->k_quant, Cols(matrix)}];
    if (type == nullptr) type = TypeOfGrid(*grid, Cols(matrix));
    LIEQ_ASSERT(type != nullptr);  // CheckTarget
    return *type;
  }

 private:
  const ModelFolder& source_;
  std::map<std::tuple<int, Index, Offset, bool, Index>, const BlockType*> known_;
};

/// The grids that matrices will be on.
struct PlannedGrids {
  const ModelGrids& grids;
  PlannedTypes& types;
};

/// What is written and how: all sizes are known before the first byte.
class Plan {
 public:
  /// planned: of a model that is not quantized yet, for specs() alone; null: as it is.
  Plan(const ModelFolder& source, const ExportSettings& settings,
       const PlannedGrids* planned = nullptr)
      : source_(source), settings_(settings), planned_(planned) {
    const Weights& weights = source.weights;
    const ModelConfig& config = weights.config;
    if (planned != nullptr) {
      const EndGrids& ends = planned->grids.ends;
      AddPlanned(kGgufEmbedding, weights.embedding, ends.embedding);
      if (!config.tied) AddPlanned(kGgufHead, weights.head, ends.head);
    } else {
      AddEnd(kGgufEmbedding, weights.embedding, settings.embedding_type, "embedding");
      if (!config.tied) AddEnd(kGgufHead, weights.head, settings.head_type, "head");
    }
    AddVector(GgufFinalNorm(config), weights.final_norm);
    if (config.rope.scaling == RopeScaling::kLongRope) {
      const auto floats = [](const std::vector<double>& factors) {
        return std::vector<float>(factors.begin(), factors.end());
      };
      long_factors_ = floats(config.rope.long_factors);
      short_factors_ = floats(config.rope.short_factors);
      AddVector(kGgufLongFactors, long_factors_);
      AddVector(kGgufShortFactors, short_factors_);
    }
    if (config.rope.scaling == RopeScaling::kLlama3) {
      rope_factors_ = RopeFactors(config.rope, config.head_dim);
      AddVector(kGgufRopeFactors, rope_factors_);
    }
    for (Index layer = 0; layer < config.layers; ++layer) {
      const LayerWeights& each = weights.layers[Size(layer)];
      for (const LayerVectorRow& row : LayerVectorRows()) {
        AddLayerVector(layer, row, each.*row.values);
      }
      for (const Site site : config.Sites(layer)) {
        const std::string module = GgufModule(config, layer, site);
        const std::vector<Index> order = GgufRowOrder(config, layer, site);
        if (planned != nullptr) {
          AddPlanned(module + ".weight", each.At(site).weight,
                     planned->grids.layers[Size(layer)][static_cast<std::size_t>(site)]);
        } else {
          AddMatrix(module + ".weight", Moved(each.At(site).weight, layer, site), order,
                    "layer " + std::to_string(layer) + ", " + std::string(Name(site)));
        }
        if (config.IsOfExperts(layer, site)) {
          std::vector<std::int64_t>& shape = specs_.back().shape;  // an expert each
          shape = {config.experts.count, shape[0] / config.experts.count, shape[1]};
        }
        AddVector(module + ".bias", each.At(site).bias, order);
      }
    }
  }

  [[nodiscard]] const std::vector<GgufSpec>& specs() const noexcept { return specs_; }

  /// Of the type that most matrices have; of equals that of the narrowest.
  [[nodiscard]] std::uint32_t FileTypeNumber() const {
    const auto matrices = [&](const BlockType& type) {
      return std::ranges::count_if(specs_, [&](const GgufSpec& spec) {
        return spec.shape.size() >= 2 && spec.type->name == type.name;
      });
    };
    return std::ranges::max_element(BlockTypes(), {}, matrices)->file_type;
  }
  [[nodiscard]] bool packed() const noexcept {
    return std::ranges::any_of(specs_, [](const GgufSpec& spec) { return spec.type->columns > 1; });
  }

  void Write(GgufWriter& writer) const {
    LIEQ_ASSERT(planned_ == nullptr);
    for (std::size_t i = 0; i < specs_.size(); ++i) writes_[i](writer, specs_[i]);
  }

 private:
  /// A matrix once it is on the grid; none: in floats.
  void AddPlanned(std::string_view name, const AnyMatrix& matrix, const std::optional<Grid>& grid) {
    specs_.push_back({std::string(name),
                      &planned_->types.Of(matrix, grid).type(),
                      {Rows(matrix), Cols(matrix)}});
    writes_.emplace_back();
  }

  /// type: empty for the matrix as it is.
  void AddEnd(std::string_view name, const AnyMatrix& matrix, const std::string& type,
              const std::string& place) {
    if (!type.empty()) {
      Add(name, matrix, Rounded(*FindBlockType(type), matrix, place), {}, place);
    } else if (std::holds_alternative<Packed>(matrix)) {
      AddMatrix(name, matrix, {}, place);
    } else {
      Add(name, matrix, {RoundedTypeOf(matrix), false}, {}, place);  // --types is of linears
    }
  }

  void AddMatrix(std::string_view name, const AnyMatrix& matrix, const std::vector<Index>& order,
                 const std::string& place) {
    Add(name, matrix, FormOf(matrix, settings_, place), order, place);
  }

  void Add(std::string_view name, const AnyMatrix& matrix, MatrixForm form,
           const std::vector<Index>& order, const std::string& place) {
    specs_.push_back({std::string(name), &form.type->type(), {Rows(matrix), Cols(matrix)}});
    writes_.push_back(
        [this, &matrix, form, order, place](GgufWriter& writer, const GgufSpec& spec) {
          if (form.rounded) {
            WriteRounded(writer, spec, matrix, *form.type, order, place);
          } else {
            WriteMatrix(writer, spec, matrix, *form.type, order);
          }
        });
  }

  /// The matrix with its columns where the file has them.
  const AnyMatrix& Moved(const AnyMatrix& matrix, Index layer, Site site) {
    const std::vector<Index> order = GgufColumnOrder(source_.weights.config, layer, site);
    if (order.empty()) return matrix;
    return moved_.emplace_back(MovedColumns(
        matrix, order, "--to gguf, layer " + std::to_string(layer) + ", " + std::string(Name(site)),
        owners_));
  }

  /// One of a layer's vectors or small matrices, as llama.cpp has it: rows in its order, and rates
  /// of decay negative.
  void AddLayerVector(Index layer, const LayerVectorRow& row, const std::vector<float>& values) {
    const ModelConfig& config = source_.weights.config;
    const auto [rows, cols] = ShapeOf(config, config.Shape(layer), row.which);
    if (values.empty()) return;
    const bool vector = rows == 1 && row.which != LayerVector::kConv &&
                        row.which != LayerVector::kDeltaA && row.which != LayerVector::kDeltaB &&
                        row.which != LayerVector::kRouter;
    const std::vector<Index> order = GgufVectorOrder(config, row.which);
    const float sign = row.which == LayerVector::kDeltaDecay ? -1.0f : 1.0f;
    specs_.push_back(
        {GgufVector(config, layer, row.which), FindGgmlType("F32"),
         vector ? std::vector<std::int64_t>{cols} : std::vector<std::int64_t>{rows, cols}});
    const Index width = vector ? 1 : cols;
    writes_.push_back([&values, order, width, sign](GgufWriter& writer, const GgufSpec& spec) {
      std::vector<float> moved(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t at = i / Size(width), column = i % Size(width);
        const std::size_t from = order.empty() ? at : Size(order[at]);
        moved[i] = sign * values[from * Size(width) + column];
      }
      writer.Write(spec.name, std::as_bytes(std::span(moved)));
    });
  }

  /// Vectors are float32: llama.cpp's elementwise operations take nothing else.
  void AddVector(std::string_view name, const std::vector<float>& values,
                 const std::vector<Index>& order = {}) {
    if (values.empty()) return;
    specs_.push_back({std::string(name), FindGgmlType("F32"), {static_cast<Index>(values.size())}});
    writes_.push_back([&values, order](GgufWriter& writer, const GgufSpec& spec) {
      std::vector<float> moved = values;
      for (std::size_t i = 0; i < order.size(); ++i) moved[i] = values[Size(order[i])];
      writer.Write(spec.name, std::as_bytes(std::span(moved)));
    });
  }

  void WriteMatrix(GgufWriter& writer, const GgufSpec& spec, const AnyMatrix& matrix,
                   const BlockType& type, const std::vector<Index>& order) const {
    const Index rows = Rows(matrix), cols = Cols(matrix);
    const auto* packed = std::get_if<Packed>(&matrix);
    if (const auto* stacked = std::get_if<std::shared_ptr<const StackedRows>>(&matrix)) {
      for (Index row = 0; row < rows; row += (*stacked)->part_rows()) {
        writer.Write(spec.name, MappedBytes(RowsOf(matrix, row, (*stacked)->part_rows())));
      }
      return source_.weights.Release(matrix);
    }
    if (packed == nullptr && order.empty()) {
      writer.Write(spec.name, MappedBytes(matrix));
      return source_.weights.Release(matrix);
    }
    const std::size_t bytes = RowBytes(*spec.type, cols);
    std::vector<std::byte> blocks(bytes);
    std::vector<std::uint8_t> codes(packed != nullptr ? Size(cols) : 0);
    for (Index row = 0; row < rows; ++row) {
      const Index from = order.empty() ? row : order[Size(row)];
      if (packed == nullptr) {
        writer.Write(spec.name, MappedBytes(matrix).subspan(Size(from) * bytes, bytes));
        continue;
      }
      (*packed)->GetRow(from, codes);
      type.encode(**packed, from, codes, blocks);
      writer.Write(spec.name, blocks);
    }
    if (packed == nullptr) source_.weights.Release(matrix);
  }

  void WriteRounded(GgufWriter& writer, const GgufSpec& spec, const AnyMatrix& matrix,
                    const BlockType& type, const std::vector<Index>& order,
                    const std::string& place) const {
    Matrix<float> values(1, Cols(matrix));
    std::vector<std::byte> blocks(RowBytes(*spec.type, Cols(matrix)));
    for (Index row = 0; row < Rows(matrix); ++row) {
      const Index from = order.empty() ? row : order[Size(row)];
      WidenRows(matrix, from, values.view());
      if (!type.round(values.view().Row(0), blocks)) {
        throw Error({.what = "a weight that " + std::string(type.name) + " has nothing near",
                     .where = place + ", row " + std::to_string(from),
                     .expected = "finite weights in the type's range",
                     .hint = "BF16 and F32 have the range of the checkpoint"});
      }
      writer.Write(spec.name, blocks);
    }
    source_.weights.Release(matrix);
  }

  const ModelFolder& source_;
  const ExportSettings& settings_;
  const PlannedGrids* planned_;
  std::vector<float> rope_factors_, long_factors_, short_factors_;
  std::deque<AnyMatrix> moved_;                      // matrices whose columns lie otherwise
  std::vector<std::shared_ptr<const void>> owners_;  // of what they view
  std::vector<GgufSpec> specs_;
  std::vector<std::function<void(GgufWriter&, const GgufSpec&)>> writes_;
};

std::string NameOf(const ModelFolder& source) {
  const auto path = source.path.has_filename() ? source.path : source.path.parent_path();
  return path.stem().string();
}

/// "Qwen/Qwen3-0.6B" by the keys that gguf-py has for it.
void AddBaseModel(const std::string& name, GgufKeyWriter& keys) {
  if (name.empty()) return;
  const auto slash = name.find('/');
  keys.U32("general.base_model.count", 1);
  keys.String("general.base_model.0.name", name.substr(slash + 1));  // npos + 1 is 0
  if (slash == std::string::npos) return;
  keys.String("general.base_model.0.organization", name.substr(0, slash));
  keys.String("general.base_model.0.repo_url", "https://huggingface.co/" + name);
}

/// Bytes of the keys that say where a model comes from, in files of models whose bytes were counted
/// before: those of its name, its writer, its origin, and the record.
std::size_t RoomOfOrigin(const ModelConfig& config) {
  constexpr std::size_t kWhole = 6144, kLayer = 320;  // of lieq.json's text; see FitRecord
  return kWhole + kLayer * Size(config.layers);
}

/// Leaves out what is longest until the text of a record has at most `room` bytes, and fills up
/// with spaces what is left of them; empty where nothing fits. The grids of layers, the longest of
/// all, are told by the tensors.
std::string FitRecord(const std::string& text, std::size_t room) {
  std::string fitted = text;
  if (fitted.size() > room) {
    Record record = ParseRecord(text, "lieq.json");
    while (fitted.size() > room && !record.empty()) {
      auto longest = record.begin();
      for (auto item = record.begin(); item != record.end(); ++item) {
        if (item->dump().size() > longest->dump().size()) longest = item;
      }
      record.erase(longest);
      fitted = record.dump();
    }
  }
  if (fitted.size() > room) return {};
  fitted.append(room - fitted.size(), ' ');
  return fitted;
}

/// Where the model comes from.
void AddOrigin(const ModelFolder& source, const ExportSettings& settings, GgufKeyWriter& keys) {
  const std::size_t before = keys.bytes().size();
  keys.String("general.name", NameThatLoads(NameOf(source), source));
  keys.String("general.quantized_by", settings.writer);
  if (!settings.license.empty()) keys.String("general.license", settings.license);
  AddBaseModel(settings.base_model, keys);
  if (!settings.counted) {
    if (!settings.record.empty()) keys.String(kGgufRecord, settings.record);
    return;
  }
  GgufKeyWriter empty;
  empty.String(kGgufRecord, "");
  const std::size_t used = keys.bytes().size() - before + empty.bytes().size();
  const std::size_t room = RoomOfOrigin(source.weights.config);
  if (used < room) keys.String(kGgufRecord, FitRecord(settings.record, room - used));
}

/// What the file says of the types of its tensors.
struct FileTypes {
  bool packed = true;  // some matrix is
  std::uint32_t number = 0;
};

void AddModelKeys(const ModelFolder& source, const FileTypes& types, const ExportSettings& settings,
                  GgufKeyWriter& keys) {
  const ModelConfig& config = source.weights.config;
  const Architecture& row = *FindArchitecture(config.architecture);
  const std::string name(row.gguf_name);
  const auto number = [&](std::string_view key, Index value) {
    keys.U32(name + "." + std::string(key), static_cast<std::uint32_t>(value));
  };
  const auto real = [&](std::string_view key, double value) {
    keys.F32(name + "." + std::string(key), static_cast<float>(value));
  };
  keys.String("general.architecture", name);
  keys.String("general.type", "model");
  AddOrigin(source, settings, keys);
  if (FindGgufName(row.gguf_name) != &row) keys.String(kGgufClass, row.name);
  if (types.packed) keys.U32("general.quantization_version", 2);
  keys.U32("general.file_type", types.number);
  number("block_count", config.layers);
  number("context_length", config.max_positions);
  number("embedding_length", config.hidden);
  number("feed_forward_length", config.intermediate);
  number("attention.head_count", config.heads);
  if (config.HasExperts()) {
    number("expert_count", config.experts.count);
    number("expert_used_count", config.experts.used);
    number("expert_feed_forward_length", config.experts.inner);
  }
  if (!config.Mixes(Mixer::kShortConv)) number("attention.head_count_kv", config.kv_heads);
  number("attention.key_length", config.head_dim);
  number("attention.value_length", config.head_dim);
  number("rope.dimension_count", config.RotaryDim());
  number("vocab_size", config.vocab);
  real("attention.layer_norm_rms_epsilon", config.rms_eps);
  real("rope.freq_base", config.rope.theta);
  if (config.rope.scaling == RopeScaling::kLlama3) {
    // Engines take the factors out of a tensor, from which the four numbers cannot be told.
    keys.F32("lieq.rope.factor", static_cast<float>(config.rope.factor));
    keys.F32("lieq.rope.low_freq_factor", static_cast<float>(config.rope.low_freq_factor));
    keys.F32("lieq.rope.high_freq_factor", static_cast<float>(config.rope.high_freq_factor));
    keys.F32("lieq.rope.original_context", static_cast<float>(config.rope.original_context));
  }
  AddOwnKeys(config, row, keys);
}

void CheckTypes(const ModelFolder& source, const ExportSettings& settings) {
  for (const std::string& name : settings.types) {
    (void)FindRow(BlockTypes(), name, "no such type", "--types");
  }
  const auto check = [](std::string_view option, const std::string& name) {
    if (name.empty()) return;
    const BlockType* type = FindBlockType(name);
    if (type != nullptr && type->round != nullptr) return;
    throw Error({.what = "no type that floats are rounded to",
                 .where = std::string(option),
                 .expected = RoundedTypes(),
                 .found = name});
  };
  check("--embedding-type", settings.embedding_type);
  check("--head-type", settings.head_type);
  if (!settings.head_type.empty() && source.weights.config.tied) {
    throw Error({.what = "the head of this model is its embedding",
                 .where = "--head-type",
                 .hint = "--embedding-type is for both"});
  }
}

}  // namespace

void WriteGguf(const ModelFolder& source, const std::filesystem::path& out,
               const ExportSettings& settings) {
  CheckTypes(source, settings);
  if (const std::optional<Problem> why = WhyNoGguf(source.weights.config)) throw Error(*why);
  const Plan plan(source, settings);
  GgufKeyWriter keys;
  AddModelKeys(source, {plan.packed(), plan.FileTypeNumber()}, settings, keys);
  if (const std::string left_out = AddTokenizerKeys(source, keys);
      !left_out.empty() && settings.note) {
    settings.note(left_out);
  }
  GgufWriter writer(out, keys, plan.specs());
  plan.Write(writer);
  writer.Commit();
}

namespace {

class Sizes : public ContainerSizes {
 public:
  explicit Sizes(const ModelFolder& source) : source_(source), types_(source) {
    settings_.counted = true;
    AddModelKeys(source, {}, settings_, keys_);
    (void)AddTokenizerKeys(source, keys_);
  }

  [[nodiscard]] std::uint64_t Whole(const ModelGrids& grids) const override {
    CheckTarget(FindTarget("gguf"), grids, source_.weights.config, "--for");
    const PlannedGrids planned{grids, types_};
    return GgufWriter::FileBytes(keys_, Plan(source_, settings_, &planned).specs());
  }

  [[nodiscard]] std::int64_t OfLinear(Index layer, Site site, const Grid& grid) const override {
    return TensorBytes(source_.weights.layers[Size(layer)].At(site).weight, grid);
  }

  [[nodiscard]] std::int64_t OfEnd(End end, const std::optional<Grid>& grid) const override {
    const Weights& weights = source_.weights;
    return TensorBytes(end == End::kEmbedding ? weights.embedding : weights.head, grid);
  }

 private:
  /// With what fills it up to where the next one may begin.
  [[nodiscard]] std::int64_t TensorBytes(const AnyMatrix& matrix,
                                         const std::optional<Grid>& grid) const {
    const GgufSpec spec{"", &types_.Of(matrix, grid).type(), {Rows(matrix), Cols(matrix)}};
    return static_cast<std::int64_t>(GgufWriter::PaddedBytes(spec));
  }

  const ModelFolder& source_;
  ExportSettings settings_;
  GgufKeyWriter keys_;
  mutable PlannedTypes types_;  // what it remembers is no part of what it says
};

}  // namespace

std::unique_ptr<ContainerSizes> GgufSizes(const ModelFolder& source) {
  if (std::optional<Problem> why = WhyNoGguf(source.weights.config)) {
    why->where = "--for gguf";
    throw Error(*std::move(why));
  }
  return std::make_unique<Sizes>(source);
}

std::vector<std::string> NotesOfGguf(const ModelFolder& source, const ExportSettings& settings) {
  constexpr std::string_view kSlow = "Q2_0", kQuick = "Q4_0";
  Index matrices = 0, slow = 0;
  bool quick = true, whole = true;
  for (const LayerWeights& layer : source.weights.layers) {
    for (const Linear& linear : layer.linears) {
      if (Rows(linear.weight) == 0) continue;
      ++matrices;
      const auto* packed = std::get_if<Packed>(&linear.weight);
      const BlockType* type = packed != nullptr ? TypeFor(**packed, settings) : nullptr;
      if (type == nullptr || type->name != kSlow) continue;
      ++slow;
      quick = quick && Holds(*FindBlockType(kQuick), **packed);
      whole = whole && Cols(linear.weight) % kSuperColumns == 0;
    }
  }
  if (slow == 0) return {};
  // Measured: docs/interop.md, "Q2_0 is slow in this llama.cpp".
  std::string note =
      "llama.cpp runs Q2_0 slowly on x86 processors, a prompt up to eight times; " +
      std::to_string(slow) + " of " + std::to_string(matrices) +
      " matrices are of it. Faster: `lieq quantize --for gguf --bpw B --candidates q2_k,q3_k,q4_k" +
      (whole ? "`" : ",4:32`");
  if (quick) note += ", or `export --types Q4_0` for the same numbers at 4.5 bits a weight";
  return {note};
}

std::string ServeGguf(const ModelFolder& source, const std::filesystem::path& out) {
  bool narrow = false;
  for (const LayerWeights& layer : source.weights.layers) {
    for (const Linear& linear : layer.linears) {
      const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&linear.weight);
      narrow = narrow ||
               (packed != nullptr && (*packed)->grid().bits == 2 && !(*packed)->grid().k_quant);
    }
  }
  // Q2_0 came to llama.cpp on 9 July 2026.
  return "llama-server -m " + ShellQuoted(out.string()) +
         (narrow ? "  # builds from July 2026 on, which know Q2_0" : "");
}

}  // namespace lieq
