# The GPU's code, where LIEQ_CUDA asks for it. Only *.cu goes to nvcc, by commands of our own: the
# compiler from PyPI's wheels (tools/setup --cuda) lies as no system's toolkit does, and CMake's own
# language CUDA looks for one of those.
set(LIEQ_CUDA_ROOT "" CACHE PATH "CUDA toolkit; empty: that of tools/setup --cuda, else the system's")
set(LIEQ_CUDA_ARCHITECTURES "80;86;89;90" CACHE STRING
  "GPUs that machine code is made for; the last one's PTX serves newer ones")

if(LIEQ_CUDA)
  file(GLOB _wheels ${PROJECT_SOURCE_DIR}/build/cuda-toolkit/nvidia/cu*)
  find_program(LIEQ_NVCC nvcc PATHS ${LIEQ_CUDA_ROOT} ${_wheels} ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
    PATH_SUFFIXES bin NO_DEFAULT_PATH)
  if(NOT LIEQ_NVCC)
    message(FATAL_ERROR "LIEQ_CUDA: no CUDA compiler is here. `tools/setup --cuda` puts one into "
      "build/cuda-toolkit, or name a toolkit's folder with -DLIEQ_CUDA_ROOT=...")
  endif()
  cmake_path(GET LIEQ_NVCC PARENT_PATH _bin)
  cmake_path(GET _bin PARENT_PATH LIEQ_CUDA_FOLDER)
  find_library(LIEQ_CUDART NAMES libcudart_static.a PATHS ${LIEQ_CUDA_FOLDER} NO_DEFAULT_PATH REQUIRED
    PATH_SUFFIXES lib lib64 targets/x86_64-linux/lib targets/sbsa-linux/lib)
  find_path(LIEQ_CUDA_INCLUDE cuda_runtime_api.h PATHS ${LIEQ_CUDA_FOLDER} NO_DEFAULT_PATH REQUIRED
    PATH_SUFFIXES include targets/x86_64-linux/include targets/sbsa-linux/include)

  set(LIEQ_CUDA_CODE "")
  foreach(_number ${LIEQ_CUDA_ARCHITECTURES})
    list(APPEND LIEQ_CUDA_CODE -gencode arch=compute_${_number},code=sm_${_number})
  endforeach()
  list(GET LIEQ_CUDA_ARCHITECTURES -1 _last)
  list(APPEND LIEQ_CUDA_CODE -gencode arch=compute_${_last},code=compute_${_last})
  message(STATUS "CUDA: ${LIEQ_NVCC}, machine code for ${LIEQ_CUDA_ARCHITECTURES}")
endif()

# lieq_cuda(TARGET FOLDER): compiles FOLDER's *.cu into TARGET, whose own files of FOLDER see CUDA's
# headers; where LIEQ_CUDA is off, TARGET has none of FOLDER but FOLDER/left_out.cpp. *_sm90a.cu use
# what compute capability 9.0 alone has (wgmma): their machine code is for that, whatever
# LIEQ_CUDA_ARCHITECTURES says, and there is no PTX of them.
function(lieq_cuda TARGET FOLDER)
  file(GLOB host CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${FOLDER}/*.cpp)
  if(NOT LIEQ_CUDA)
    list(REMOVE_ITEM host ${FOLDER}/left_out.cpp)
    set_source_files_properties(${host} PROPERTIES HEADER_FILE_ONLY ON)
    return()
  endif()
  set_source_files_properties(${FOLDER}/left_out.cpp PROPERTIES HEADER_FILE_ONLY ON)
  list(REMOVE_ITEM host ${FOLDER}/left_out.cpp)
  set_source_files_properties(${host} PROPERTIES COMPILE_OPTIONS "-isystem;${LIEQ_CUDA_INCLUDE}")

  set(flags -std=c++20 -O3 -I${PROJECT_SOURCE_DIR}/src -Xcompiler=-Wall,-Wextra)
  if(CMAKE_POSITION_INDEPENDENT_CODE)
    list(APPEND flags -Xcompiler=-fPIC,-fvisibility=hidden)
  endif()
  if(LIEQ_WERROR)
    list(APPEND flags -Werror all-warnings)
  endif()
  set(nvcc ${LIEQ_NVCC})
  if(LIEQ_CCACHE)
    list(PREPEND nvcc ${LIEQ_CCACHE})
  endif()
  file(GLOB kernels CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${FOLDER}/*.cu)
  foreach(kernel ${kernels})
    cmake_path(GET kernel STEM name)
    set(code ${LIEQ_CUDA_CODE})
    if(name MATCHES "_sm90a$")
      set(code -gencode arch=compute_90a,code=sm_90a)
    endif()
    set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda/${name}.o)
    add_custom_command(OUTPUT ${object} VERBATIM
      COMMAND ${nvcc} -ccbin ${CMAKE_CXX_COMPILER} ${flags} ${code}
        -c ${CMAKE_CURRENT_SOURCE_DIR}/${kernel} -o ${object} -MD -MF ${object}.d
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${kernel} DEPFILE ${object}.d
      COMMENT "Building CUDA object ${name}.o")
    target_sources(${TARGET} PRIVATE ${object})
    set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  endforeach()
  target_link_libraries(${TARGET} PUBLIC ${LIEQ_CUDART} Threads::Threads ${CMAKE_DL_LIBS} rt)
endfunction()
