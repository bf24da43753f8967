# Finds nvcc, and compiles kernels with it as objects of an ordinary library: CMake's own CUDA language would link every
# program with nvcc. Sets LETHE_NVCC, empty where CUDA is off.
set(LETHE_NVCC "")
if(NOT LETHE_CUDA STREQUAL "OFF" AND NOT LETHE_SANITIZE)
  find_program(LETHE_NVCC_FOUND nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda/bin)
  if(LETHE_NVCC_FOUND)
    set(LETHE_NVCC ${LETHE_NVCC_FOUND})
    get_filename_component(LETHE_CUDA_ROOT ${LETHE_NVCC} REALPATH)
    get_filename_component(LETHE_CUDA_ROOT ${LETHE_CUDA_ROOT}/../.. ABSOLUTE)
    find_library(LETHE_CUDART cudart_static HINTS ${LETHE_CUDA_ROOT}/lib64 ${LETHE_CUDA_ROOT}/targets/x86_64-linux/lib NO_CACHE REQUIRED)
    message(STATUS "CUDA: ${LETHE_NVCC}")
  elseif(LETHE_CUDA STREQUAL "ON")
    message(FATAL_ERROR "LETHE_CUDA is ON, and there is no nvcc in PATH, CUDA_HOME or /usr/local/cuda/bin")
  endif()
endif()

# sm_80 and sm_90 (with wgmma) as machine code; the first as PTX too, for what comes later.
set(LETHE_CUDA_FLAGS -std=c++17 -O3 -lineinfo -Xcompiler -Wall,-Wno-unused-function
    -gencode arch=compute_80,code=[sm_80,compute_80] -gencode arch=compute_90a,code=sm_90a)
if(LETHE_WERROR)
  list(APPEND LETHE_CUDA_FLAGS -Werror all-warnings)
endif()
if(LETHE_MUTANTS)
  list(APPEND LETHE_CUDA_FLAGS -DLETHE_MUTANTS)
endif()

# lethe_kernels(TARGET SOURCE.cu...): compiled by nvcc, added to the target with the runtime they need.
function(lethe_kernels target)
  foreach(source ${ARGN})
    get_filename_component(name ${source} NAME)
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${target}.${name}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${LETHE_NVCC} ${LETHE_CUDA_FLAGS} -I${CMAKE_SOURCE_DIR} -I${CMAKE_SOURCE_DIR}/base/include -MD -MF ${object}.d -c ${source} -o ${object}
      DEPENDS ${source} DEPFILE ${object}.d COMMENT "nvcc ${name}" VERBATIM)
    target_sources(${target} PRIVATE ${object})
  endforeach()
  target_link_libraries(${target} PUBLIC ${LETHE_CUDART} stdc++ rt ${CMAKE_DL_LIBS} Threads::Threads)
endfunction()
