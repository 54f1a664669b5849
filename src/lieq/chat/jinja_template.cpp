#include "lieq/chat/jinja_template.h"

#include <algorithm>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/chat/jinja_lexer.h"
#include "lieq/io/printable.h"
#include "lieq/text/utf8.h"

namespace lieq::jinja {
namespace {

constexpr std::size_t kMostSource = 1'000'000;

/// JSON to values, each string with its origin.
class Importer {
 public:
  Importer(Heap& heap, const Variable& variable) : heap_(heap), variable_(variable) {}

  Value Read(const Record& value, const std::string& place) {
    switch (value.type()) {
      case Record::value_t::null:
        return Value::None();
      case Record::value_t::boolean:
        return Value::Bool(value.get<bool>());
      case Record::value_t::number_integer:
        return Value::Int(value.get<std::int64_t>());
      case Record::value_t::number_unsigned:
        if (value.get<std::uint64_t>() > INT64_MAX) {
          throw Fault("an integer of the input is too large", "64 bits", value.dump());
        }
        return Value::Int(value.get<std::int64_t>());
      case Record::value_t::number_float:
        return Value::Float(value.get<double>());
      case Record::value_t::string:
        return String(value.get_ref<const std::string&>(), place);
      case Record::value_t::array: {
        std::vector<Value> items;
        for (std::size_t i = 0; i < value.size(); ++i) {
          items.push_back(Read(value[i], place + "/" + std::to_string(i)));
        }
        return MakeSequence(heap_, Kind::kList, std::move(items));
      }
      default: {
        const auto dict = std::make_shared<DictObject>(heap_);
        for (const auto& [key, item] : value.items()) {
          dict->Set(String(key, place + "/" + key), Read(item, place + "/" + key));
        }
        return MakeDict(dict);
      }
    }
  }

 private:
  Value String(const std::string& text, const std::string& place) {
    Mark mark;
    if (variable_.origin) mark.origin = variable_.origin(place);
    std::string repaired;
    return MakeString(heap_, Text(std::string(ToValidUtf8(text, repaired)), mark));
  }

  Heap& heap_;
  const Variable& variable_;
};

}  // namespace

Template::Template(std::string_view source, std::string name) : name_(std::move(name)) {
  if (source.size() > kMostSource) {
    throw Error({.what = "the template is too long",
                 .where = name_,
                 .expected = "at most " + std::to_string(kMostSource) + " bytes",
                 .found = std::to_string(source.size())});
  }
  std::string repaired;
  source_ = NormalizedSource(ToValidUtf8(source, repaired));
  tree_ = std::make_shared<Tree>(std::size_t{64} << 20);
  std::size_t at = 0;
  try {
    Parse(source_, *tree_, at);
  } catch (const Fault& fault) {
    Throw(fault, at);
  }
}

Text Template::Render(const std::vector<Variable>& variables, const RenderOptions& options) const {
  std::size_t at = 0;
  try {
    Run run(*tree_, options.limits, options.now, at);
    for (const Variable& variable : variables) {
      run.Set(variable.name, Importer(run.heap(), variable).Read(variable.value, ""));
    }
    return run.Render();
  } catch (const Fault& fault) {
    Throw(fault, at);
  }
}

void Template::Throw(const Fault& fault, std::size_t at) const {
  constexpr std::size_t kShown = 60;  // bytes of the line on either side
  at = std::min(at, source_.size());
  const std::size_t newline = at == 0 ? std::string::npos : source_.rfind('\n', at - 1);
  const std::size_t begin = newline == std::string::npos ? 0 : newline + 1;
  const auto lines =
      std::count(source_.begin(), source_.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  const std::string before = source_.substr(begin, at - begin);
  std::size_t from = at - std::min(at - begin, kShown);
  while (from > begin && (static_cast<unsigned char>(source_[from]) & 0xC0) == 0x80) --from;
  std::size_t to = std::min(source_.find('\n', at), source_.size());
  to = std::min(to, at + kShown);
  const std::string piece = source_.substr(from, WholeCharacters(source_.substr(from, to - from)));
  throw Error({.what = fault.message,
               .where = name_ + ": line " + std::to_string(lines + 1) + ", column " +
                        std::to_string(CharactersOf(before) + 1) + ", at '" + Printable(piece) +
                        "'",
               .expected = fault.expected,
               .found = fault.found});
}

}  // namespace lieq::jinja
