// The interpreter by itself: rows of templates and what they write, its limits, its errors, and the
// marks of text from messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/rng.h"
#include "lieq/chat/jinja_template.h"
#include "lieq/io/json.h"
#include "tests/support/error_of.h"

namespace lieq::jinja {
namespace {

using testing::HasSubstr;

constexpr std::string_view kVariables = R"({
  "n": 7, "x": 2.5, "s": "Hello", "u": "\u00dcber \ud83d\ude42", "nothing": null, "yes": true,
  "xs": [3, 1, 2], "d": {"b": 1, "a": [true, null], "items": 5},
  "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]})";

std::vector<Variable> VariablesOf(std::string_view json) {
  std::vector<Variable> variables;
  const Record record = ParseRecord(json, "variables");
  for (const auto& [name, value] : record.items()) variables.push_back({name, value, {}});
  return variables;
}

std::string Rendered(std::string_view source, const RenderOptions& options = {}) {
  return Template(source, "test").Render(VariablesOf(kVariables), options).bytes();
}

struct Row {
  std::string_view source;
  std::string_view written;
};

class JinjaRow : public testing::TestWithParam<Row> {};

TEST_P(JinjaRow, Writes) {
  EXPECT_EQ(Rendered(GetParam().source), GetParam().written);
}

INSTANTIATE_TEST_SUITE_P(
    Expressions, JinjaRow,
    testing::Values(
        Row{"{{ 1 + 2 * 3 ** 2 }}", "19"},
        Row{"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }}", "-4 2 3.5"},
        Row{"{{ -7.5 // 2 }} {{ -7.5 % 2 }}", "-4.0 0.5"}, Row{"{{ 2 ** -1 }}", "0.5"},
        Row{"{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }}", "True False"}, Row{"{{ '3' + 1 ~ 2 }}", "312"},
        Row{"{{ 'a' 'b' ~ 1 ~ none ~ true }}", "ab1NoneTrue"},
        Row{"{{ 'a' if n > 5 else 'b' }}{{ 'c' if not yes }}", "a"},
        Row{"{{ missing }}|{{ missing or 'x' }}|{{ d.nope }}", "|x|"},
        Row{"{{ d.b }}{{ d['b'] }}{{ d['items'] }}", "115"},
        Row{"{{ xs[0] }}{{ xs[-1] }}{{ xs.1 }}{{ xs[9] }}", "321"},
        Row{"{{ xs[1:] }}{{ xs[::-1] }}", "[1, 2][2, 1, 3]"},
        Row{"{{ u[0] }}{{ u[-1] }}{{ u[1:4] }}{{ u|length }}", "Ü🙂ber6"},
        Row{"{{ 'it\\'s' }}{{ ['it\\'s', '\"'] }}", "it's[\"it's\", '\"']"},
        Row{"{{ 1.0 }} {{ 1e16 }} {{ 1e22 }} {{ 0.0001 }} {{ 0.00001 }}",
            "1.0 1e+16 1e+22 0.0001 1e-05"},
        Row{"{{ d }}", "{'b': 1, 'a': [True, None], 'items': 5}"},
        Row{"{{ (1,) }}{{ () }}{{ (1, 'a') }}", "(1,)()(1, 'a')"},
        Row{"{{ 3 in xs }}{{ 'b' in d }}{{ 'el' in s }}{{ 9 not in xs }}", "TrueTrueTrueTrue"},
        Row{"{{ -n|abs }}{{ (-n)|abs }}", "77"},
        Row{"{{ '%s-%d-%.2f' % ('a', 3, 1.5) }}", "a-3-1.50"},
        Row{"{{ '{} {x}'.format(1, x=2) }}", "1 2"},
        Row{"{{ none is none }}{{ missing is defined }}", "TrueFalse"},
        Row{"{{ 4 is divisibleby 2 }}{{ n is not even }}{{ 5 is in [5] }}", "TrueTrueTrue"},
        Row{"{{ {'a': 1, 2: [1]} }}", "{'a': 1, 2: [1]}"},
        Row{"{{ [] is sequence }}{{ range(3) }}", "Truerange(0, 3)"},
        Row{"{{ 1 == 1.0 == true }}{{ '1' == 1 }}", "TrueFalse"},
        Row{"{{ xs|sort|join('-') }}", "1-2-3"},
        Row{"{{ messages|map(attribute='role')|list }}", "['user', 'assistant']"},
        Row{"{{ messages|selectattr('role', 'eq', 'user')|list|length }}", "1"},
        Row{"{{ {'b': 'ü\\n', 'a': [1.5, none]}|tojson }}",
            "{\"b\": \"ü\\n\", \"a\": [1.5, null]}"},
        Row{"{{ {'b': 1, 'a': {}}|tojson(indent=2, sort_keys=true) }}",
            "{\n  \"a\": {},\n  \"b\": 1\n}"},
        Row{"{{ 'é🙂'|tojson(ensure_ascii=true) }}", "\"\\u00e9\\ud83d\\ude42\""},
        Row{"{{ 'a,b'.split(',')[1] }}", "b"},
        Row{"{{ '  x '|trim }}{{ ' x'.lstrip() }}{{ 'xax'.strip('x') }}", "xxa"},
        Row{"{{ 'straße'.upper() }}", "STRASSE"},
        Row{"{{ 2.5|round }} {{ 3.14159|round(2) }} {{ 7|round }}", "2.0 3.14 7"},
        Row{"{{ '42.9'|int }}{{ 'x'|int(5) }}", "425"},
        Row{"{{ 'a\\nb\\n\\nc'|indent(2) }}", "a\n  b\n\n  c"},
        Row{"{{ 1_000 }} {{ 0x1F }} {{ 1.5e3 }}", "1000 31 1500.0"},
        Row{"{{ 'hello world-wide'|title }}", "Hello World-Wide"},
        Row{"{{ cycler('a', 'b').next() }}", "a"}));

INSTANTIATE_TEST_SUITE_P(
    Statements, JinjaRow,
    testing::Values(
        Row{"{% if n > 9 %}a{% elif n > 5 %}b{% else %}c{% endif %}", "b"},
        Row{"{% for x in xs %}{{ loop.index }}{{ x }}{{ ',' if not loop.last }}{% endfor %}",
            "13,21,32"},
        Row{"{% for x in [] %}a{% else %}b{% endfor %}", "b"},
        Row{"{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{% endfor %}", "a1"},
        Row{"{% for x in xs if x > 1 %}{{ loop.revindex }}{{ x }}{% endfor %}", "2312"},
        Row{"{% for x in xs %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% break %}{% endfor "
            "%}",
            "3"},
        Row{"{% for t in [{'c': [{'c': []}]}] recursive %}<{{ loop(t.c) }}>{% endfor %}", "<<>>"},
        Row{"{% set a = 1 %}{% for x in xs %}{% set a = x %}{% endfor %}{{ a }}", "1"},
        Row{"{% set ns = namespace(a=1) %}{% for x in xs %}{% set ns.a = ns.a + x %}{% endfor %}{{ "
            "ns.a }}",
            "7"},
        Row{"{% set a, b = 1, 2 %}{{ b }}{% set c %}x{{ a }}{% endset %}{{ c }}", "2x1"},
        Row{"{% set c | upper %}x{% endset %}{{ c }}{% filter upper %}y{% endfilter %}", "XY"},
        Row{"{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(b=3, a=4) }}", "1243"},
        Row{"{% macro f() %}[{{ caller(1) }}]{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}",
            "[1]"},
        Row{"{% macro f() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, a=2) }}",
            "(1,){'a': 2}"},
        Row{"{% with a = 1 %}{{ a }}{% endwith %}{{ a }}", "1"},
        Row{"{# no #}{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
        Row{"a\n  {% if true %}\nb\n  {% endif %}\nc\n", "a\nb\nc"},
        Row{"a  {{- 'b' -}}  c", "abc"}, Row{"  {%+ if true %} x{% endif %}", "   x"},
        Row{"{% if true +%}\nx{% endif %}", "\nx"}, Row{"a\r\nb\r{{ 1 }}", "a\nb\n1"},
        Row{"{{ 'a\\u00e9\\x41\\101\\q' }}", "aéAA\\q"},
        Row{"{% generation %}{{ s }}{% endgeneration %}", "Hello"},
        Row{"{% for x in [1, 1, 2] %}{{ loop.changed(x) }}{{ loop.cycle('a', 'b') }}{% endfor %}",
            "TrueaFalsebTruea"},
        Row{"{% for x in 'ab' %}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}", "b;a;"}));

struct WrongRow {
  std::string_view source;
  std::string_view message;
};

class JinjaWrong : public testing::TestWithParam<WrongRow> {};

TEST_P(JinjaWrong, IsRefusedWithItsPlace) {
  EXPECT_THAT(ErrorOf([] { return Rendered(GetParam().source); }),
              HasSubstr(std::string(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(
    All, JinjaWrong,
    testing::Values(
        WrongRow{"a\n{{ messages[0].content + 1 }}",
                 "test: line 2, column 24, at '{{ messages[0].content + 1 }}': '+' cannot"},
        WrongRow{"{{ missing.x }}", "line 1, column 12"},
        WrongRow{"{{ missing.x }}", "'missing' is undefined"}, WrongRow{"{% if x %}\n\n", "line 2"},
        WrongRow{"{% if x %}", "a block has no end"}, WrongRow{"{{ 'a", "a string has no end"},
        WrongRow{"é{{ ! }}", "line 1, column 5"}, WrongRow{"{{ (1 }}", "closes that is not open"},
        WrongRow{"{% include 'x' %}", "this tag is not supported"},
        WrongRow{"{{ raise_exception('no\nway') }}", "the template refuses: no\\x0away"},
        WrongRow{"{{ 1|nope }}", "there is no filter of this name"},
        WrongRow{"{{ 1 is nope }}", "there is no test of this name"},
        WrongRow{"{{ 9223372036854775807 + 1 }}", "64 bits"},
        WrongRow{"{{ 1 // 0 }}", "division by zero"},
        WrongRow{"{% set x = [] %}{{ x.append(1) }}", "has no attribute 'append'"},
        WrongRow{"{{ d.update({}) }}", "no attribute 'update'"},
        WrongRow{"{% break %}", "break is in no loop"},
        WrongRow{"{% for loop in xs %}{% endfor %}", "cannot be the variable"},
        WrongRow{"{% set s.x = 1 %}", "of a namespace alone"},
        WrongRow{"{{ xs() }}", "cannot be called"},
        WrongRow{"{% for a, b in [1] %}{% endfor %}", "cannot be gone through"},
        WrongRow{"{{ ''.join([1]) }}", "join takes strings"}));

struct BombRow {
  std::string_view name;
  std::string_view source;
  std::string_view message;
};

class JinjaBomb : public testing::TestWithParam<BombRow> {};

TEST_P(JinjaBomb, EndsAtALimit) {
  EXPECT_THAT(ErrorOf([] { return Rendered(GetParam().source, {.limits = {.steps = 2'000'000}}); }),
              HasSubstr(std::string(GetParam().message)))
      << GetParam().name;
}

INSTANTIATE_TEST_SUITE_P(
    All, JinjaBomb,
    testing::Values(
        BombRow{"loops",
                "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
                "too many steps"},
        BombRow{"output", "{% set a = 'x' * 1000000 %}{% for b in range(99) %}{{ a }}{% endfor %}",
                "writes too much"},
        BombRow{"captures",
                "{% set a = 'x' * 900000 %}{% macro f() %}{{ a }}{{ f() }}{% endmacro %}{{ f() }}",
                "too m"},
        BombRow{"text", "{{ 'x' * 9999999999 }}", "too much memory"},
        BombRow{"list", "{{ ([1] * 999999999)|length }}", "too much memory"},
        BombRow{"doubling",
                "{% set ns = namespace(a='x') %}{% for b in range(60) %}{% set ns.a = ns.a + ns.a "
                "%}{% endfor %}",
                "too m"},
        BombRow{"replacing", "{% set a = 'x' * 100000 %}{{ a|replace('x', a) }}", "too m"},
        BombRow{"joining", "{% set a = 'x' * 1000000 %}{{ range(9999)|join(a) }}", "too m"},
        BombRow{"indenting", "{{ ('a\\n' * 10000)|indent(99999) }}", "too m"},
        BombRow{"filling", "{{ [1]|batch(999999999, 0)|list }}", "too much memory"},
        BombRow{"macros", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "too deep"},
        BombRow{"lists",
                "{% set ns = namespace(a=[]) %}{% for b in range(9999) %}{% set ns.a = [ns.a] %}{% "
                "endfor %}",
                "too deep"},
        BombRow{"same lists",
                "{% set ns = namespace(a=[1], b=[1]) %}{% for i in range(60) %}{% set ns.a = "
                "[ns.a, ns.a] %}{% set ns.b = [ns.b, ns.b] %}{% endfor %}{{ ns.a == ns.b }}",
                "too many steps"},
        BombRow{"json of same lists",
                "{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] "
                "%}{% endfor %}{{ ns.a|tojson|length }}",
                "too m"},
        BombRow{"keys of same lists",
                "{% set ns = namespace(a=(1,)) %}{% for i in range(60) %}{% set ns.a = (ns.a, "
                "ns.a) %}{% endfor %}{{ {ns.a: 1}|length }}",
                "too m"},
        BombRow{"power", "{{ 2 ** 9999999999 }}", "64 bits"},
        BombRow{"range", "{{ range(999999999)|list }}", "range is too long"},
        BombRow{"width", "{{ '%999999999d' % 1 }}", "width in a format"}));

TEST(Jinja, DeepSourceIsRefusedAndNotRecursedInto) {
  const auto repeated = [](std::string_view piece, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += piece;
    return text;
  };
  for (const std::string_view piece :
       {"(", "[", "{1:", "not ", "-", "1 if ", "f(", "x[", "1 if 1 else "}) {
    EXPECT_FALSE(
        ErrorOf([&] { return Rendered("{{ " + repeated(piece, 100'000) + " }}"); }).empty())
        << piece;
  }
  EXPECT_THAT(ErrorOf([&] { return Rendered(repeated("{% if 1 %}", 50'000)); }),
              HasSubstr("too deep"));
  EXPECT_THAT(ErrorOf([&] { return Rendered("{{ 1" + repeated(" + 1", 50'000) + " }}"); }),
              HasSubstr("too deep"));
  EXPECT_THAT(ErrorOf([&] { return Rendered("{{ x" + repeated(".a", 50'000) + " }}"); }),
              HasSubstr("too deep"));
  EXPECT_THAT(
      ErrorOf([&] {
        return Rendered("{% set " + repeated("(", 50'000) + repeated(")", 50'000) + " = 1 %}");
      }),
      HasSubstr("too deep"));
}

TEST(Jinja, CyclesAreLetGoWithTheRun) {  // a leak, for the sanitizers
  EXPECT_EQ(Rendered("{% set ns = namespace() %}{% set ns.a = ns %}{% set ns.b = [ns] %}"
                     "{% for x in xs %}{% macro f() %}{{ x }}{% endmacro %}{% set ns.f = f %}{% "
                     "set ns.l = loop %}"
                     "{% set ns.c = loop.cycle %}{% endfor %}{{ ns.f() }}"),
            "2");
}

TEST(Jinja, WhatOutlivesItsLoopOrCallIsRefused) {
  EXPECT_THAT(ErrorOf([] {
                return Rendered(
                    "{% set ns = namespace() %}{% for x in xs recursive %}{% set ns.l = loop %}{% "
                    "endfor %}{{ ns.l([1]) }}");
              }),
              HasSubstr("recursive"));
  EXPECT_THAT(ErrorOf([] {
                return Rendered(
                    "{% set ns = namespace() %}{% macro f() %}{% set ns.c = caller %}{% endmacro "
                    "%}{% call f() %}x{% endcall %}{{ ns.c() }}");
              }),
              HasSubstr("has ended"));
}

TEST(Jinja, TheClockIsThatOfTheCaller) {
  std::tm now{};
  now.tm_year = 124;
  now.tm_mday = 3;
  EXPECT_EQ(Rendered("{{ strftime_now('%d %b %Y') }}", {.now = now}), "03 Jan 2024");
}

/// What is marked as of origin 0, with brackets around it.
std::string Marked(std::string_view source, std::string_view content) {
  Variable variable{"m", Record(std::string(content)), [](std::string_view) { return 0; }};
  const Text text = Template(source, "test").Render({variable});
  std::string result;
  std::size_t done = 0;
  for (const MarkedSpan& span : text.spans()) {
    result += text.bytes().substr(done, span.begin - done) + "[" +
              text.bytes().substr(span.begin, span.end - span.begin) + "]";
    done = span.end;
  }
  return result + text.bytes().substr(done);
}

TEST(Jinja, TextOfMessagesStaysMarkedThroughEveryOperation) {
  const std::vector<Row> rows{{"<{{ m }}>", "<[ Ab\nc ]>"},
                              {"{{ '<' + m + '>' }}", "<[ Ab\nc ]>"},
                              {"{{ '<' ~ m|trim ~ '>' }}", "<[Ab\nc]>"},
                              {"{{ m.strip().upper() }}!", "[AB\nC]!"},
                              {"{{ m[1:3] }}-{{ m[-2] }}", "[Ab]-[c]"},
                              {"{{ m|replace('b', 'xx') }}", "[ A]xx[\nc ]"},
                              {"{{ 'x-y'.replace('-', m) }}", "x[ Ab\nc ]y"},
                              {"{{ m.split()|join('+') }}", "[Ab]+[c]"},
                              {"{{ m|tojson }}", "\"[ Ab\\nc ]\""},
                              {"{{ [m] }}", "['[ Ab\\nc ]']"},
                              {"{{ m|indent(1) }}", "[ Ab]\n [c ]"},
                              {"{{ '%s|%5s' % (m, 'q') }}", "[ Ab\nc ]|    q"},
                              {"{{ '{}.'.format(m) }}", "[ Ab\nc ]."},
                              {"{% set v %}({{ m }}){% endset %}{{ v|title }}", "([ Ab\nC ])"},
                              {"{% filter upper %}a{{ m }}{% endfilter %}", "A[ AB\nC ]"},
                              {"{% macro f(x) %}{{ x }};{% endmacro %}{{ f(m) }}", "[ Ab\nc ];"},
                              {"{% for c in m.strip() %}{{ c }}.{% endfor %}", "[A].[b].[\n].[c]."},
                              {"{{ m|list|reverse|join }}", "[ c\nbA ]"},
                              {"{{ m * 2 }}", "[ Ab\nc  Ab\nc ]"},
                              {"{{ (m ~ '<e>')|e }}", "[ Ab\nc ]&lt;e&gt;"},
                              {"{{ m.partition('b')[2] }}", "[\nc ]"},
                              {"{{ m.splitlines()[0].center(5, '*') }}", "*[ Ab]*"},
                              {"{{ {m: 1}|dictsort }}", "[('[ Ab\\nc ]', 1)]"},
                              {"{{ m|default('x') }}{{ (m or 'x')|string }}", "[ Ab\nc  Ab\nc ]"}};
  for (const Row& row : rows) EXPECT_EQ(Marked(row.source, " Ab\nc "), row.written) << row.source;
}

TEST(Jinja, AnswersAreMarkedWhereverTheyAreMoved) {
  const Text text =
      Template("a{% set v %}{% generation %}b{{ 1 }}{% endgeneration %}{% endset %}{{ v }}c",
               "test")
          .Render({});
  ASSERT_EQ(text.spans().size(), 1U);
  EXPECT_EQ(text.spans()[0], (MarkedSpan{.begin = 1, .end = 3, .mark = {.answer = true}}));
}

TEST(Jinja, SourceChangedByChanceWritesOrIsRefused) {
  const std::vector<std::string> seeds{
      "{% set ns = namespace(a=1) %}{% for m in messages %}{{ m.role ~ m['content']|trim }}{% if "
      "loop.first %}x{% else %}{% continue %}{% endif %}{% endfor %}",
      "{% macro f(a, b='x') %}{{ caller() if caller else a[1:]|tojson(indent=2) }}{% endmacro %}{% "
      "call f('abc') %}{{ d.items()|list }}{% endcall %}{{ f(s) }}",
      "{{ xs|map('string')|join(', ')|replace('1', u)|indent(2) }}{%- generation -%}{{ '%s' % s "
      "}}{% endgeneration %}{# c #}{% raw %}{{{% endraw %}",
      "{{ (n // 2) ** 3 % 5 - x * 1.5 if 'a' in d and not nothing else raise_exception('no') }}{{ "
      "messages|selectattr('role', 'eq', 'user')|map(attribute='content')|first }}"};
  constexpr std::string_view kPieces = "{}%#'\"|()[]-+.:,=~* \n\\ab01";
  for (std::uint64_t i = 0; i < 20'000; ++i) {
    Rng rng(7, i);
    const auto below = [&](std::size_t bound) {
      return static_cast<std::size_t>(rng.Below(static_cast<std::uint32_t>(bound)));
    };
    std::string source = seeds[below(seeds.size())];
    for (std::size_t change = 0; change <= below(4); ++change) {
      const std::size_t at = below(source.size() + 1);
      switch (below(4)) {
        case 0:
          source.insert(at, 1, kPieces[below(kPieces.size())]);
          break;
        case 1:
          source.erase(at, 1 + below(5));
          break;
        case 2: {
          const std::string& other = seeds[below(seeds.size())];
          source.insert(at, other.substr(below(other.size()), below(24)));
          break;
        }
        default:
          if (at < source.size()) source[at] = static_cast<char>(below(256));
      }
    }
    (void)ErrorOf(
        [&] { return Rendered(source, {.limits = {.steps = 20'000, .memory = 20'000'000}}); });
  }
}

}  // namespace
}  // namespace lieq::jinja
