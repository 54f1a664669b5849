#include "lieq/text/characters.h"

#include <utf8proc.h>

#include "lieq/text/utf8.h"

namespace lieq {
namespace {

utf8proc_category_t CategoryOf(char32_t character) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(character));
}

std::string InUtf8(utf8proc_int32_t character) {
  std::string text;
  AppendUtf8(text, static_cast<char32_t>(character));
  return text;
}

constexpr char32_t kSharpS = 0xDF;

}  // namespace

bool IsSpaceCharacter(char32_t character) {
  std::string text;
  AppendUtf8(text, character);
  return WithoutSpaceBehind(text).empty();
}

bool IsLetter(char32_t character) {
  const utf8proc_category_t category = CategoryOf(character);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool IsLetterOrDigit(char32_t character) {
  const utf8proc_category_t category = CategoryOf(character);
  return IsLetter(character) ||
         (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO);
}

bool IsDigit(char32_t character) {
  return CategoryOf(character) == UTF8PROC_CATEGORY_ND;
}

bool IsPrintableCharacter(char32_t character) {
  if (character == ' ') return true;
  const utf8proc_category_t category = CategoryOf(character);
  return category != UTF8PROC_CATEGORY_CN &&
         (category < UTF8PROC_CATEGORY_ZS || category > UTF8PROC_CATEGORY_CO);
}

bool IsUpperLetter(char32_t character) {
  return CategoryOf(character) == UTF8PROC_CATEGORY_LU;
}

bool IsLowerLetter(char32_t character) {
  return CategoryOf(character) == UTF8PROC_CATEGORY_LL;
}

bool IsWordCharacter(char32_t character) {
  // Letters in circles and squares are symbols by category, and alphabetic.
  const auto within = [&](char32_t first, char32_t last) {
    return character >= first && character <= last;
  };
  if (within(0x200C, 0x200D) || within(0x24B6, 0x24E9) || within(0x1F130, 0x1F149) ||
      within(0x1F150, 0x1F169) || within(0x1F170, 0x1F189)) {
    return true;
  }
  const utf8proc_category_t category = CategoryOf(character);
  return (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC;
}

std::string UpperOf(char32_t character) {
  if (character == kSharpS) return "SS";
  return InUtf8(utf8proc_toupper(static_cast<utf8proc_int32_t>(character)));
}

std::string LowerOf(char32_t character) {
  return InUtf8(utf8proc_tolower(static_cast<utf8proc_int32_t>(character)));
}

std::string TitleOf(char32_t character) {
  if (character == kSharpS) return "Ss";
  return InUtf8(utf8proc_totitle(static_cast<utf8proc_int32_t>(character)));
}

}  // namespace lieq
