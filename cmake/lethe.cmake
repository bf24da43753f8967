# lethe_library(NAME [LINK lib...] [PRIVATE lib...]): the folder's sources as one static library, its
# include/ public. LINK are other folders (the allowed arrows); PRIVATE are outside libraries.
function(lethe_library name)
  cmake_parse_arguments(A "" "" "LINK;PRIVATE;EXCLUDE" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp
       ${CMAKE_CURRENT_SOURCE_DIR}/cpu/*.c)
  foreach(excluded ${A_EXCLUDE})
    list(REMOVE_ITEM sources ${CMAKE_CURRENT_SOURCE_DIR}/${excluded})
  endforeach()
  add_library(lethe_${name} STATIC ${sources})
  target_include_directories(lethe_${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR}/include
                             PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  foreach(edge ${A_LINK})
    target_link_libraries(lethe_${name} PUBLIC lethe_${edge})
  endforeach()
  target_link_libraries(lethe_${name} PRIVATE ${A_PRIVATE})
endfunction()

# lethe_test(NAME LINK lib...): tests/unit/test_NAME.c, run by ctest; prints TAP.
function(lethe_test name)
  cmake_parse_arguments(A "" "" "LINK" ${ARGN})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/unit/test_${name}.c)
    add_executable(test_${name} unit/test_${name}.c)
    target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR})
    target_link_libraries(test_${name} PRIVATE ${A_LINK})
    add_test(NAME ${name} COMMAND test_${name})
    set_tests_properties(${name} PROPERTIES ENVIRONMENT "LETHE_SOURCE=${CMAKE_SOURCE_DIR}" TIMEOUT 300)
  endif()
endfunction()

# lethe_fuzz(NAME LINK lib...): tests/fuzz/fuzz_NAME.c defines LLVMFuzzerTestOneInput. Without
# LETHE_FUZZ it is linked with a replayer of tests/fuzz/corpus/NAME, which ctest runs.
function(lethe_fuzz name)
  cmake_parse_arguments(A "" "" "LINK" ${ARGN})
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/fuzz_${name}.c)
    if(LETHE_FUZZ)
      add_executable(fuzz_${name} fuzz/fuzz_${name}.c)
      target_compile_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
      target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
    else()
      add_executable(fuzz_${name} fuzz/fuzz_${name}.c fuzz/replay.c)
      add_test(NAME fuzz_${name} COMMAND fuzz_${name} ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${name})
    endif()
    target_include_directories(fuzz_${name} PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(fuzz_${name} PRIVATE ${A_LINK})
  endif()
endfunction()
