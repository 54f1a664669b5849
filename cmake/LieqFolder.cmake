# lieq_cold(TARGET): nothing in TARGET runs often, so it is compiled faster rather than to run faster.
function(lieq_cold TARGET)
  if(CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
    # g++ 12 at -O1 takes a std::optional that is tested first for uninitialized.
    target_compile_options(${TARGET} PRIVATE $<$<CONFIG:Release>:-O1>
      $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
  endif()
endfunction()

# lieq_folder(NAME [COLD] [DEPENDS folder...] [LINK library...])
#
# One static library per folder under src/lieq, linked in the order of ARCHITECTURE.md, so that a
# dependency against the order fails to link. Sources are all *.cpp of the folder (and below).
# COLD: a folder without loops over weights or tokens.
function(lieq_folder NAME)
  cmake_parse_arguments(ARG "COLD" "" "DEPENDS;LINK" ${ARGN})
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
  endif()
  foreach(folder ${ARG_DEPENDS})
    if(TARGET lieq_${folder})
      target_link_libraries(lieq_${NAME} PUBLIC lieq_${folder})
    endif()
  endforeach()
  set_property(GLOBAL APPEND PROPERTY LIEQ_FOLDERS lieq_${NAME})
endfunction()

# Builds the programs of all tests with the label "fast": what the sanitizer run of ./test needs.
add_custom_target(fast_tests)

# lieq_test(NAME [DEPENDS folder...] [LABELS label...] [PARTS n]): tests/NAME/*_test.cpp as one
# program. Its label is "fast" (run under the sanitizers too) unless LABELS says otherwise: "slow".
# PARTS: one that takes minutes is run as n tests, which go side by side.
function(lieq_test NAME)
  cmake_parse_arguments(ARG "" "PARTS" "DEPENDS;LABELS" ${ARGN})
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
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  if("fast" IN_LIST ARG_LABELS)
    add_dependencies(fast_tests ${NAME}_tests)
  endif()
  if(NOT ARG_PARTS)
    set(ARG_PARTS 1)
  endif()
  foreach(part RANGE 1 ${ARG_PARTS})
    set(test ${NAME})
    if(ARG_PARTS GREATER 1)
      set(test ${NAME}_${part})
    endif()
    math(EXPR index "${part} - 1")
    add_test(NAME ${test} COMMAND ${NAME}_tests)
    set_tests_properties(${test} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 900
      COST ${ARG_PARTS} ENVIRONMENT "GTEST_TOTAL_SHARDS=${ARG_PARTS};GTEST_SHARD_INDEX=${index}")
  endforeach()
endfunction()
