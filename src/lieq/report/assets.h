// Style and script of the page, put into the program by the build from report/assets/.
#pragma once

#include <string_view>

namespace lieq {

[[nodiscard]] std::string_view ReportFigureStyle() noexcept;  // figure.css: colours and figures
[[nodiscard]] std::string_view ReportStyle() noexcept;        // report.css: the page around them
[[nodiscard]] std::string_view ReportDark() noexcept;         // dark.css: declarations alone
[[nodiscard]] std::string_view ReportScript() noexcept;       // report.js
/// SHA-256 of the script in hexadecimal, for the page's content security policy.
[[nodiscard]] std::string_view ReportScriptHash() noexcept;

}  // namespace lieq
