#include "lieq/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>

#include "lieq/base/assert.h"
#include "lieq/report/assets.h"
#include "lieq/report/html.h"
#include "lieq/report/matching.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"

namespace lieq {
namespace {

/// Bytes in hexadecimal as base64, which is how a content security policy names a hash.
std::string Base64OfHex(std::string_view hex) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto nibble = [&](std::size_t i) {
    const char c = i < hex.size() ? hex[i] : '0';
    return static_cast<std::uint32_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  };
  std::string text;
  for (std::size_t i = 0; i < hex.size(); i += 6) {  // three bytes make four digits
    std::uint32_t bits = 0;
    for (std::size_t k = 0; k < 6; ++k) bits = bits << 4 | nibble(i + k);
    const std::size_t bytes = std::min<std::size_t>(3, (hex.size() - i) / 2);
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= bytes ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
    }
  }
  return text;
}

/// The models that the page is about.
std::string TitleOf(const Records& records) {
  const std::vector<std::string> models = BaseModels(records);
  if (!models.empty()) return Listed(models);
  for (const Diagnostics& diagnostics : records.diagnostics) {
    if (!diagnostics.run.empty()) return diagnostics.run;
  }
  return "A run";
}

std::string SubtitleOf(const Records& records) {
  if (records.models.size() > 1) {
    std::vector<std::string> runs;
    for (const ModelFacts& each : records.models) runs.push_back(each.run);
    return "quantized as " + Listed(runs);
  }
  if (records.models.empty() || !records.models[0].code_bits) return {};
  const ModelFacts& model = records.models[0];
  std::string text = model.run == model.base_model || model.run.empty() ? "" : model.run + ": ";
  text += fmt::format("quantized to {:.2f} code bits", *model.code_bits);
  if (model.bits_per_weight) {
    text += fmt::format(", {:.2f} with scales and zero-points", *model.bits_per_weight);
  }
  return text;
}

/// Scripts are refused but for ours, and nothing is fetched: a second wall behind the escaping.
std::string Policy() {
  return "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" +
         Base64OfHex(ReportScriptHash()) + "'; base-uri 'none'; form-action 'none'";
}

Html Head(const std::string& title) {
  Html head;
  head.Open("head").Void("meta", {{"charset", "utf-8"}});
  head.Void("meta", {{"http-equiv", "Content-Security-Policy"}, {"content", Policy()}});
  head.Void("meta", {{"name", "viewport"}, {"content", "width=device-width, initial-scale=1"}});
  head.Void("meta", {{"name", "generator"}, {"content", "LieQ report"}});  // so that it is known
  head.Void("meta", {{"name", "color-scheme"}, {"content", "light dark"}});
  head.Element("title", title + " · LieQ report");
  head.Open("style").Trusted(ReportFigureStyle()).Trusted(ReportStyle());
  head.Trusted("@media (prefers-color-scheme: dark) {\n:root:not([data-theme=\"light\"]) {\n");
  head.Trusted(ReportDark()).Trusted("}\n}\n:root[data-theme=\"dark\"] {\n");
  head.Trusted(ReportDark()).Trusted("}\n").Close();
  head.Close();
  return head;
}

}  // namespace

std::string RenderReport(std::span<const ReportInput> inputs) {
  const Records records = ReadRecords(inputs);
  const std::string title = TitleOf(records);
  Html nav, body;
  for (const SectionRow& row : Sections()) {
    const Html content = row.draw(records);
    if (content.empty()) continue;
    nav.Element("a", row.title, {{"href", "#" + std::string(row.id)}});
    body.Open("section", {{"id", std::string(row.id)}}).Element("h2", row.title);
    if (!row.intro.empty()) body.Element("p", row.intro, {{"class", "intro"}});
    body.Add(content).Close();
  }

  Html page;
  page.Trusted("<!doctype html>\n");
  page.Open("html", {{"lang", "en"}}).Add(Head(title)).Open("body");
  page.Open("header").Open("div", {{"class", "top"}});
  page.Element("span", "LieQ report", {{"class", "eyebrow"}});
  page.Open("button",
            {{"id", "theme"}, {"type", "button"}, {"hidden", ""}, {"aria-label", "light or dark"}});
  page.Text("◐").Close().Close();
  page.Element("h1", title);
  const std::string subtitle = SubtitleOf(records);
  if (!subtitle.empty()) page.Element("p", subtitle, {{"class", "subtitle"}});
  page.Open("nav", {{"aria-label", "sections"}}).Add(nav).Close().Close();
  page.Open("main").Add(body).Close();
  page.Open("footer").Open("p").Text("Made from ");
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const ReportInput& input = inputs[i];
    page.Text(i > 0 ? ", " : "");
    page.Element("code", input.run == input.file ? input.file : input.run + "/" + input.file);
  }
  page.Text(". The method: Xiao et al., arXiv:2508.03332.").Close().Close();
  page.Open("div", {{"id", "tip"}, {"role", "status"}, {"hidden", ""}}).Close();
  page.Open("script").Trusted(ReportScript()).Close();
  page.Close().Close();
  return page.str() + "\n";
}

}  // namespace lieq
