# lieq_cold(TARGET): nothing in TARGET runs often, so it is compiled faster rather than to run faster.
function(lieq_cold TARGET)
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    # g++ 12 at -O1 takes a std::optional that is tested first for uninitialized, and std::string::resize
    # for one that overflows.
    target_compile_options(${TARGET} PRIVATE $<$<CONFIG:Release>:-O1>
      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized -Wno-stringop-overflow>)
  endif()
endfunction()

# What is cold is compiled five files at a time, and the headers that most of it reads once for all:
# JSON alone takes g++ three seconds. A file still includes what it uses, and names what it has for
# itself apart from its neighbours; the presets tsan and fuzz go without both (LIEQ_TOGETHER).
# g++ takes such headers only under the flags that they were made with, so these are cold targets alone.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/empty.cpp CONTENT "int main() { return 0; }\n")
function(lieq_headers TARGET)
  cmake_parse_arguments(ARG "" "" "LINK;HEADERS" ${ARGN})
  target_sources(${TARGET} PRIVATE ${PROJECT_BINARY_DIR}/generated/empty.cpp)
  target_link_libraries(${TARGET} PRIVATE lieq_flags fmt::fmt nlohmann_json::nlohmann_json ${ARG_LINK})
  target_precompile_headers(${TARGET} PRIVATE <algorithm> <filesystem> <functional> <map> <memory>
    <optional> <span> <string> <string_view> <vector> <fmt/format.h> <nlohmann/json.hpp> ${ARG_HEADERS})
  lieq_cold(${TARGET})
endfunction()
add_library(lieq_headers STATIC)
lieq_headers(lieq_headers)
# With sanitizers, headers of folders that are glue, which are not optimized then (lieq_folder), and those of the
# standard library alone for hot files, under their own flags: other builds show that these include what they use.
if(LIEQ_SANITIZE)
  add_library(lieq_glue_headers STATIC EXCLUDE_FROM_ALL)
  lieq_headers(lieq_glue_headers)
  target_compile_options(lieq_glue_headers PRIVATE -O0)
  add_library(lieq_hot_headers STATIC EXCLUDE_FROM_ALL ${PROJECT_BINARY_DIR}/generated/empty.cpp)
  target_link_libraries(lieq_hot_headers PRIVATE lieq_flags)
  target_precompile_headers(lieq_hot_headers PRIVATE <algorithm> <array> <atomic> <cmath>
    <condition_variable> <cstdint> <cstring> <filesystem> <functional> <limits> <map> <memory> <mutex>
    <numeric> <optional> <span> <stdexcept> <string> <string_view> <thread> <tuple> <utility> <variant>
    <vector>)
endif()
function(lieq_together TARGET HEADERS)
  if(LIEQ_TOGETHER)
    target_precompile_headers(${TARGET} REUSE_FROM ${HEADERS})
    set_target_properties(${TARGET} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 5)
  endif()
endfunction()

# lieq_folder(NAME [COLD [GLUE]] [HOT file...] [DEPENDS folder...] [LINK library...])
#
# One static library per folder under src/lieq, linked in the order of ARCHITECTURE.md, so that a
# dependency against the order fails to link. Sources are all *.cpp of the folder (and below).
# COLD: a folder without loops over weights or tokens, but for the files that are HOT.
# GLUE: nor does it read files itself. With sanitizers it is not optimized: going through all that they add takes
# the optimizer longer than the tests gain.
function(lieq_folder NAME)
  cmake_parse_arguments(ARG "COLD;GLUE" "" "DEPENDS;LINK;HOT" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${NAME}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_library(lieq_${NAME} STATIC ${sources})
  target_include_directories(lieq_${NAME} PUBLIC
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(lieq_${NAME} PRIVATE $<BUILD_INTERFACE:lieq_flags> PUBLIC ${ARG_LINK})
  if(ARG_COLD)
    lieq_cold(lieq_${NAME})
    if(ARG_GLUE AND LIEQ_SANITIZE)
      target_compile_options(lieq_${NAME} PRIVATE -O0)
      lieq_together(lieq_${NAME} lieq_glue_headers)
    else()
      lieq_together(lieq_${NAME} lieq_headers)
    endif()
    list(TRANSFORM ARG_HOT PREPEND ${NAME}/)
    set_source_files_properties(${ARG_HOT} PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Release>:-O3>
      SKIP_PRECOMPILE_HEADERS ON SKIP_UNITY_BUILD_INCLUSION ON)
  elseif(LIEQ_TOGETHER AND LIEQ_SANITIZE)
    target_precompile_headers(lieq_${NAME} REUSE_FROM lieq_hot_headers)
  endif()
  foreach(folder ${ARG_DEPENDS})
    if(TARGET lieq_${folder})
      target_link_libraries(lieq_${NAME} PUBLIC lieq_${folder})
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY LIEQ_FOLDERS lieq_${NAME})
endfunction()

# lieq_test_code(TARGET): TARGET is code of tests.
function(lieq_test_code TARGET)
  set_target_properties(${TARGET} PROPERTIES LIEQ_TEST_CODE ON)
endfunction()

# Builds the programs of all tests with the label "fast": what the sanitizer run of ./test needs.
add_custom_target(fast_tests)

# lieq_test(NAME [DEPENDS folder...] [LABELS label...]): tests/NAME/*_test.cpp as one program, of which
# each case is a test by the name NAME.Suite.Case; with sanitizers forty are one (LieqCases.cmake).
# Their label is "fast" (run under the sanitizers too) unless LABELS says otherwise: "slow".
set(LIEQ_CASES ${CMAKE_CURRENT_LIST_DIR}/LieqCases.cmake)
function(lieq_test NAME)
  cmake_parse_arguments(ARG "" "" "DEPENDS;LABELS" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${NAME}/*.cpp)
  if(NOT sources)
    return()
  endif()
  add_executable(${NAME}_tests ${sources})
  target_link_libraries(${NAME}_tests PRIVATE lieq_flags lieq_test_support GTest::gtest_main
    GTest::gmock)
  foreach(folder ${NAME} ${ARG_DEPENDS})
    if(TARGET lieq_${folder})
      target_link_libraries(${NAME}_tests PRIVATE lieq_${folder})
    endif()
  endforeach()
  target_include_directories(${NAME}_tests PRIVATE ${PROJECT_SOURCE_DIR})
  lieq_cold(${NAME}_tests)
  lieq_test_code(${NAME}_tests)
  if(NOT TARGET lieq_test_headers)
    add_executable(lieq_test_headers)  # as the tests are: -fPIE
    lieq_test_code(lieq_test_headers)
    lieq_headers(lieq_test_headers LINK GTest::gmock HEADERS <gtest/gtest.h> <gmock/gmock.h>)
  endif()
  if(LIEQ_TOGETHER)
    target_precompile_headers(${NAME}_tests REUSE_FROM lieq_test_headers)
  endif()
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  if("fast" IN_LIST ARG_LABELS)
    add_dependencies(fast_tests ${NAME}_tests)
  endif()
  # Until there is a record of what each takes, slow ones come first: none is left alone at the end.
  set(cost 1)
  if("slow" IN_LIST ARG_LABELS)
    set(cost 10)
  endif()
  set(together OFF)
  if(LIEQ_SANITIZE)
    set(together ON)
  endif()
  set(cases ${CMAKE_CURRENT_BINARY_DIR}/${NAME}_cases.cmake)
  list(JOIN CMAKE_CROSSCOMPILING_EMULATOR " " emulator)
  add_custom_command(TARGET ${NAME}_tests POST_BUILD BYPRODUCTS ${cases} VERBATIM
    COMMAND ${CMAKE_COMMAND} -DPROGRAM=$<TARGET_FILE:${NAME}_tests> -DEMULATOR=${emulator}
      -DPREFIX=${NAME} -DLABELS=${ARG_LABELS} -DCOST=${cost} -DOUTPUT=${cases}
      -DTOGETHER=${together} -P ${LIEQ_CASES})
  set(include ${CMAKE_CURRENT_BINARY_DIR}/${NAME}_include.cmake)
  file(CONFIGURE OUTPUT ${include} @ONLY CONTENT [=[
if(EXISTS "@cases@")
  include("@cases@")
else()
  add_test(@NAME@.not_built @NAME@_tests_are_not_built)
endif()
]=])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${include})
endfunction()
