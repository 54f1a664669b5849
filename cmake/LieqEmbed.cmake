# lieq_embed(TARGET HEADER include/path.h FUNCTION Name FILE path [HASH_FUNCTION Name])
#
# The bytes of FILE travel inside TARGET: FUNCTION(), which HEADER declares in namespace lieq, gives
# them as a std::string_view, and HASH_FUNCTION() their SHA-256 in hexadecimal.
function(lieq_embed TARGET)
  cmake_parse_arguments(ARG "" "HEADER;FUNCTION;FILE;HASH_FUNCTION" "" ${ARGN})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${ARG_FILE})
  file(READ ${ARG_FILE} bytes HEX)
  string(REGEX REPLACE "(..)" "0x\\1," bytes "${bytes}")
  set(hash "")
  if(ARG_HASH_FUNCTION)
    file(SHA256 ${ARG_FILE} digest)
    set(hash "std::string_view ${ARG_HASH_FUNCTION}() noexcept { return \"${digest}\"; }")
  endif()
  string(TOLOWER "${ARG_FUNCTION}" name)
  file(CONFIGURE OUTPUT embedded_${name}.cpp CONTENT [[
#include "@ARG_HEADER@"

namespace lieq {
namespace {
constexpr unsigned char kBytes[] = {@bytes@};
}  // namespace
std::string_view @ARG_FUNCTION@() noexcept {
  return {reinterpret_cast<const char*>(kBytes), sizeof(kBytes)};
}
@hash@
}  // namespace lieq
]] @ONLY)
  set(source ${CMAKE_CURRENT_BINARY_DIR}/embedded_${name}.cpp)
  target_sources(${TARGET} PRIVATE ${source})
  set_source_files_properties(${source} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON
    SKIP_PRECOMPILE_HEADERS ON)
endfunction()
