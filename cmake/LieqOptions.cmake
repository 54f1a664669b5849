option(LIEQ_BUILD_TESTS "Build the tests" OFF)
option(LIEQ_BUILD_BENCH "Build the benchmark programs" OFF)
option(LIEQ_BUILD_FUZZERS "Build the libFuzzer targets (needs clang)" OFF)
option(LIEQ_PYTHON "Build the Python package (needs pybind11)" OFF)
option(LIEQ_PIC "Compile so that the Python package can be linked later" OFF)
option(LIEQ_CUDA "Build --device cuda (needs a CUDA compiler: tools/setup --cuda)" OFF)
option(LIEQ_ASSERTS "Check internal invariants at run time" OFF)
option(LIEQ_WERROR "Warnings are errors" OFF)
option(LIEQ_TOGETHER "Compile files that are not hot in groups: faster" ON)
set(LIEQ_SANITIZE "" CACHE STRING "Value of -fsanitize=, empty for none")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
if(LIEQ_PYTHON OR LIEQ_PIC)  # the folders' static libraries end in a shared one, which shows none of their names
  set(CMAKE_POSITION_INDEPENDENT_CODE ON)
  set(CMAKE_CXX_VISIBILITY_PRESET hidden)
  set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
endif()

# Paths below the source tree are relative for ccache, so that another clone finds what one compiled.
find_program(LIEQ_CCACHE ccache)
if(LIEQ_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR}
    CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros ${LIEQ_CCACHE})
endif()

add_library(lieq_flags INTERFACE)
# Fused multiply-add only where it is written: g++ fuses a*b+c by itself otherwise, and the kernel
# rows would part (see docs/numerics.md).
target_compile_options(lieq_flags INTERFACE -ffp-contract=off -Wall -Wextra -Wpedantic -Wconversion
  -Wshadow -Wno-missing-field-initializers  # designated initializers leave fields out on purpose
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)  # g++ 12 sees overlap in "x" + string (GCC bug 105651)
if(LIEQ_WERROR)
  target_compile_options(lieq_flags INTERFACE -Werror)
endif()
if(LIEQ_ASSERTS)
  target_compile_definitions(lieq_flags INTERFACE LIEQ_ENABLE_ASSERTS=1)
endif()
if(LIEQ_SANITIZE)
  # What tests themselves do (LIEQ_TEST_CODE, lieq_test_code) is watched for memory alone, and not
  # optimized: of the time that a sanitizer build takes, more than half went to it.
  string(REPLACE ",undefined" "" _test "${LIEQ_SANITIZE}")
  string(REPLACE "," "$<COMMA>" _all "${LIEQ_SANITIZE}")
  set(_is_test "$<BOOL:$<TARGET_PROPERTY:LIEQ_TEST_CODE>>")
  target_compile_options(lieq_flags INTERFACE
    "-fsanitize=$<IF:${_is_test},${_test},${_all}>" -fno-omit-frame-pointer "$<${_is_test}:-O0>")
  string(REPLACE "fuzzer-no-link" "" _link "${LIEQ_SANITIZE}")
  string(REGEX REPLACE ",+$" "" _link "${_link}")
  target_link_options(lieq_flags INTERFACE -fsanitize=${_link})
  if(LIEQ_SANITIZE MATCHES "undefined")
    target_compile_options(lieq_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()
