// Options of serve.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kServeRows{
    OptionRow{.names = "--host",
              .value = "ADDRESS",
              .commands = kServe,
              .help = "address of this machine to listen at; 0.0.0.0: all, for others to reach",
              .set = [](Arguments& a, const std::string& v) { a.serve.host = v; },
              .first = kServe,
              .preset = [](const Arguments& a) { return Shown(a.serve.host); }},
    OptionRow{.names = "--port",
              .value = "N",
              .commands = kServe,
              .help = "port to listen at; 0: one that is free",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.serve.port = Parse<int>("--port", v, 0, 65535, "a whole number, 0 to 65535");
                  },
              .first = kServe,
              .preset = [](const Arguments& a) { return Shown(a.serve.port); }},
    OptionRow{.names = "--parallel",
              .value = "N",
              .commands = kServe,
              .help = "answers that are written at once, in one batch",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.serve.engine.sequences =
                        Parse<Index>("--parallel", v, 1, 256, "a whole number, 1 to 256");
                  },
              .first = kServe,
              .preset = [](const Arguments& a) { return Shown(a.serve.engine.sequences); }},
    OptionRow{.names = "--queue",
              .value = "N",
              .commands = kServe,
              .help = "requests that wait beyond those; further ones are refused",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.serve.engine.waiting =
                        Parse<Index>("--queue", v, 0, 1024, "a whole number, 0 to 1024");
                  },
              .preset = [](const Arguments& a) { return Shown(a.serve.engine.waiting); }},
    OptionRow{.names = "--api-key-file",
              .value = "FILE",
              .commands = kServe,
              .help = "a file whose first line clients must give as their key (default: none)",
              .set = [](Arguments& a, const std::string& v) { a.serve.api_key_file = v; }},
};

}  // namespace

std::span<const OptionRow> ServeOptions() noexcept {
  return kServeRows;
}

}  // namespace lieq
